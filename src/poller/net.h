// Net, Stream, Acceptor: the network seam. Non-blocking byte streams that a poller can wait for.
//
// Production uses TCP sockets (Net::system()); a simulation supplies streams that split, delay and reset. All calls
// return at once: "would block" is -EAGAIN, other failures are negative errno values, as in base/sys.h.
//
//   LEAP_TRY(auto stream, Net::system().connect(address));
//   LEAP_TRY_VOID(stream->attach(poller, *this, {.read = false, .write = true}));   // poll() when the attempt is over
//
// Threading: a stream or acceptor belongs to one poller's thread while attached; Net itself may be used from any
// thread.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/address.h"
#include "base/result.h"
#include "poller/poller.h"

namespace leap {

/// One connection. Owned by one poller at a time; closing is destruction.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Bytes read, 0 at end of stream, or -errno.
  virtual ssize_t readv(const iovec* iov, int count) = 0;
  /// Bytes accepted, or -errno (-EPIPE, -ECONNRESET when the peer is gone). Never raises SIGPIPE.
  virtual ssize_t writev(const iovec* iov, int count) = 0;
  /// Half-closes the sending direction.
  virtual void shutdown_write() = 0;

  /// Has `poller` call `pollable` when there is something to read or room to write, as asked, and on errors. A
  /// connecting stream becomes writable when the attempt is over.
  virtual Result<> attach(NvmePoller& poller, Pollable& pollable, Interest interest) = 0;
  /// While attached: changes what is told. Costs a system call only when it differs.
  virtual void set_interest(Interest interest) = 0;
  /// Must be called before the pollable is destroyed (destruction of the stream does it too). May be attached again.
  virtual void detach() = 0;

  /// How the attempt of a connecting stream ended: 0, or its errno; EINPROGRESS while it goes on.
  virtual int connect_error() = 0;
  [[nodiscard]] virtual std::string peer() const = 0;  ///< "127.0.0.1:4420", for messages
  /// Our own end, as the peer reached it; 0.0.0.0:0 when the stream does not know.
  [[nodiscard]] virtual SocketAddress local_address() const { return {}; }
};

/// A listening socket. accept() never blocks.
class Acceptor {
 public:
  virtual ~Acceptor() = default;
  /// A new connection; nullptr when there is none now. Error: os (out of descriptors, ...); the acceptor stays usable,
  /// but stays readable too: detach for a while, or the poller is woken over and over for what it cannot take.
  virtual Result<std::unique_ptr<Stream>> accept() = 0;
  virtual Result<> attach(NvmePoller& poller, Pollable& pollable) = 0;
  virtual void detach() = 0;
  [[nodiscard]] virtual SocketAddress local_address() const = 0;  ///< with the port the system chose, if it was 0
};

class Net {
 public:
  virtual ~Net() = default;
  /// Begins a connection attempt and returns at once; attach for write to learn its outcome.
  virtual Result<std::unique_ptr<Stream>> connect(const SocketAddress& address) = 0;
  /// Error kAlreadyExists: the address is in use.
  virtual Result<std::unique_ptr<Acceptor>> listen(const SocketAddress& address) = 0;

  /// The machine's TCP: TCP_NODELAY on every stream, keep-alive probes, SO_REUSEADDR on listeners.
  static Net& system();
};

}  // namespace leap
