// Session: one client connection, from its first frame to its end.
//
// A frame is received, served and answered before the next one is looked at; frames that the client pipelines wait on
// the socket. A failed request is an error reply and the connection goes on; only a frame that makes no sense, a status
// byte that asks for it, or the network end the connection.
//
// Threading: its poller. Lives in the frame of the task that runs it; ends by itself, on drain() or on abort().
#pragma once

#include <memory>
#include <string>

#include "base/intrusive_list.h"
#include "rpc/frame_stream.h"
#include "worker/read_session.h"
#include "worker/session_context.h"
#include "worker/write_session.h"

namespace leap {

class Session final : public IntrusiveListNode {
 public:
  Session(SessionContext& context, std::unique_ptr<AsyncStream> stream);

  Task<void> run();

  /// Ends the connection as soon as no request is in progress: now, if it is idle.
  void drain();
  /// Ends the connection now; a request in progress finishes in the store, but its reply is lost.
  void abort() { stream_->close(); }

 private:
  Task<bool> serve();
  Task<Result<bool>> dispatch();
  Result<> answer_info();
  Task<Result<>> send_reply(Result<bool> outcome);
  void log_end(const Error& error);

  SessionContext& context_;
  std::unique_ptr<AsyncStream> stream_;
  rpc::FrameReader in_;
  rpc::FrameWriter out_;
  ClientGate gate_;
  WriteSession write_;
  ReadSession read_;
  bool serving_ = false;
  bool draining_ = false;
};

}  // namespace leap
