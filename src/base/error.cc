#include "base/error.h"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace leap {
namespace {

Errc kind_from_errno(int err) {
  switch (err) {
    case ENOENT:
    case ENODEV:
    case ENXIO: return Errc::kNotFound;
    case EEXIST:
    case EADDRINUSE: return Errc::kAlreadyExists;
    case EBUSY: return Errc::kBusy;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return Errc::kNoSpace;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case EAGAIN: return Errc::kExhausted;
    case ETIMEDOUT: return Errc::kTimedOut;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ESHUTDOWN: return Errc::kClosed;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN: return Errc::kUnreachable;
    case ECANCELED: return Errc::kCancelled;
    case EOPNOTSUPP:
    case ENOSYS:
    case EAFNOSUPPORT: return Errc::kUnsupported;
    case EACCES:
    case EPERM:
    case EROFS: return Errc::kPermission;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR: return Errc::kInvalidArgument;
    default: return Errc::kIo;
  }
}

bool retryable_errno(int err) {
  return err == EAGAIN || err == EINTR || err == ENOBUFS || err == ECONNREFUSED || err == ECONNRESET ||
         err == ETIMEDOUT || err == EPIPE;
}

}  // namespace

std::string_view to_string(Errc kind) {
  switch (kind) {
    case Errc::kInternal: return "internal error";
    case Errc::kInvalidArgument: return "invalid argument";
    case Errc::kNotFound: return "not found";
    case Errc::kAlreadyExists: return "already exists";
    case Errc::kBusy: return "busy";
    case Errc::kWrongState: return "wrong state";
    case Errc::kNoSpace: return "no space";
    case Errc::kExhausted: return "resource exhausted";
    case Errc::kTimedOut: return "timed out";
    case Errc::kClosed: return "closed";
    case Errc::kUnreachable: return "unreachable";
    case Errc::kCancelled: return "cancelled";
    case Errc::kCorrupt: return "corrupt";
    case Errc::kProtocol: return "protocol violation";
    case Errc::kUnsupported: return "unsupported";
    case Errc::kPermission: return "permission";
    case Errc::kIo: return "I/O error";
  }
  return "unknown";
}

std::string_view to_string(ErrorDomain domain) {
  switch (domain) {
    case ErrorDomain::kLocal: return "local";
    case ErrorDomain::kOs: return "os";
    case ErrorDomain::kNvme: return "nvme";
    case ErrorDomain::kTransport: return "transport";
    case ErrorDomain::kConfig: return "config";
    case ErrorDomain::kStore: return "store";
    case ErrorDomain::kRpc: return "rpc";
  }
  return "unknown";
}

std::string_view to_string(ErrorScope scope) {
  switch (scope) {
    case ErrorScope::kCommand: return "command";
    case ErrorScope::kQueuePair: return "queue pair";
    case ErrorScope::kController: return "controller";
    case ErrorScope::kDevice: return "device";
    case ErrorScope::kProcess: return "process";
  }
  return "unknown";
}

Error::Error(Errc kind, std::string message) : detail_(std::make_unique<Detail>()) {
  detail_->kind = kind;
  detail_->message = std::move(message);
}

Error::Error(const Error& other) : detail_(std::make_unique<Detail>(*other.detail_)) {}

Error& Error::operator=(const Error& other) {
  if (this != &other) detail_ = std::make_unique<Detail>(*other.detail_);
  return *this;
}

Error Error::os(int err, std::string_view what) {
  Error error(kind_from_errno(err), fmt::format("{}: {}", what, std::strerror(err)));
  error.detail_->domain = ErrorDomain::kOs;
  error.detail_->os_errno = err;
  error.detail_->retryable = retryable_errno(err);
  return error;
}

Error&& Error::in(ErrorDomain domain) && {
  detail_->domain = domain;
  return std::move(*this);
}

Error&& Error::with_scope(ErrorScope scope) && {
  detail_->scope = scope;
  return std::move(*this);
}

Error&& Error::with_nvme(NvmeStatusCode status) && {
  detail_->domain = ErrorDomain::kNvme;
  detail_->nvme = status;
  return std::move(*this);
}

Error&& Error::retryable_if(bool retryable) && {
  detail_->retryable = retryable;
  return std::move(*this);
}

Error&& Error::maybe_executed(bool value) && {
  detail_->may_have_executed = value;
  return std::move(*this);
}

Error&& Error::context(std::string_view text) && {
  detail_->message = fmt::format("{}: {}", text, detail_->message);
  return std::move(*this);
}

std::string Error::to_string() const {
  std::string text = detail_->message;
  if (detail_->domain == ErrorDomain::kNvme) {
    text +=
        fmt::format(" (sct {:#x} sc {:#04x}{}{})", detail_->nvme.sct, detail_->nvme.sc, detail_->nvme.dnr ? " dnr" : "",
                    detail_->nvme.crd != 0 ? fmt::format(" crd {}", detail_->nvme.crd) : "");
  }
  if (detail_->may_have_executed) text += " (may have executed)";
  return text;
}

}  // namespace leap
