// Error: what went wrong, with its facts kept apart.
//
// An Error carries three things that must never be folded into one integer (docs/ARCHITECTURE.md, "Errors"):
//   * kind()    what it means to a caller who has to decide (Errc),
//   * domain()  who said so (operating system, NVMe controller, transport, store, ...),
//   * the exact code in that domain: os_errno() or nvme_status().
// and the facts a retry policy needs: retryable(), may_have_executed(), scope().
//
// Threading: a value type. Cost: success paths never build one; an Error is one pointer, its details are on the heap.
//
//   return Error(Errc::kNoSpace, "allocate 4.0 MiB for block 42: largest free extent is 1.0
//   MiB").in(ErrorDomain::kStore); return Error::os(errno, "open /dev/hugepages");
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace leap {

/// What an error means to the caller. Stable: printed by name, never by number.
enum class Errc : std::uint8_t {
  kInternal,         ///< a bug or an unclassified failure
  kInvalidArgument,  ///< the request, configuration or input is wrong; repeating it cannot help
  kNotFound,
  kAlreadyExists,
  kBusy,         ///< held by someone else now
  kWrongState,   ///< legal in another state only
  kNoSpace,      ///< the device, directory or reservation is full
  kExhausted,    ///< a bounded resource (buffers, queue slots) has no room; back-pressure, not a fault
  kTimedOut,     ///< a deadline passed; see may_have_executed()
  kClosed,       ///< the peer or the owner closed the connection, queue pair or object
  kUnreachable,  ///< nobody answers at that address
  kCancelled,
  kCorrupt,   ///< data or metadata failed its checksum or an invariant
  kProtocol,  ///< the peer broke its specification
  kUnsupported,
  kPermission,
  kIo,  ///< the device reported a failure
};

/// Who reported the failure.
enum class ErrorDomain : std::uint8_t { kLocal, kOs, kNvme, kTransport, kConfig, kStore, kRpc };

/// How much is affected: what a caller may keep using.
enum class ErrorScope : std::uint8_t { kCommand, kQueuePair, kController, kDevice, kProcess };

std::string_view to_string(Errc kind);
std::string_view to_string(ErrorDomain domain);
std::string_view to_string(ErrorScope scope);

/// The status field of an NVMe completion, taken apart (NVMe Base 2.0, 3.3.3.2, Completion Queue Entry: Status Field).
struct NvmeStatusCode {
  std::uint8_t sct = 0;  ///< Status Code Type
  std::uint8_t sc = 0;   ///< Status Code
  std::uint8_t crd = 0;  ///< Command Retry Delay index
  bool more = false;     ///< more information in the Error Information log page
  bool dnr = false;      ///< Do Not Retry

  [[nodiscard]] constexpr bool ok() const { return sct == 0 && sc == 0; }
  friend constexpr bool operator==(const NvmeStatusCode&, const NvmeStatusCode&) = default;
};

class [[nodiscard]] Error {
 public:
  Error(Errc kind, std::string message);
  Error(const Error& other);
  Error(Error&& other) noexcept = default;
  Error& operator=(const Error& other);
  Error& operator=(Error&& other) noexcept = default;
  ~Error() = default;

  /// From errno: domain kOs, kind derived from the value, message "<what>: <strerror>".
  static Error os(int err, std::string_view what);

  // Builders, chained at the point of creation.
  Error&& in(ErrorDomain domain) &&;
  Error&& with_scope(ErrorScope scope) &&;
  Error&& with_nvme(NvmeStatusCode status) &&;  ///< also sets the domain to kNvme
  Error&& retryable_if(bool retryable) &&;
  Error&& maybe_executed(bool value = true) &&;
  /// Prepends "<context>: " on the way up, so that the text reads from the operation down to the cause.
  Error&& context(std::string_view text) &&;

  [[nodiscard]] Errc kind() const { return detail_->kind; }
  [[nodiscard]] ErrorDomain domain() const { return detail_->domain; }
  [[nodiscard]] ErrorScope scope() const { return detail_->scope; }
  [[nodiscard]] int os_errno() const { return detail_->os_errno; }  ///< 0 unless domain() is kOs
  [[nodiscard]] NvmeStatusCode nvme_status() const { return detail_->nvme; }
  [[nodiscard]] bool retryable() const { return detail_->retryable; }
  /// True when the device may have carried the command out although we report failure (a lost reply, a timeout).
  [[nodiscard]] bool may_have_executed() const { return detail_->may_have_executed; }
  [[nodiscard]] const std::string& message() const { return detail_->message; }
  /// One line for logs and the CLI: message plus the facts that are not obvious from it.
  [[nodiscard]] std::string to_string() const;

 private:
  struct Detail {
    Errc kind = Errc::kInternal;
    ErrorDomain domain = ErrorDomain::kLocal;
    ErrorScope scope = ErrorScope::kCommand;
    bool retryable = false;
    bool may_have_executed = false;
    int os_errno = 0;
    NvmeStatusCode nvme;
    std::string message;
  };
  std::unique_ptr<Detail> detail_;
};

}  // namespace leap
