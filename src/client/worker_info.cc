#include "client/worker_info.h"

#include "proto/leap.pb.h"

namespace leap {

Task<Result<WorkerInfo>> fetch_worker_info(WorkerConnection& connection) {
  proto::LeapWorkerInfoResponse reply;
  WorkerConnection::Call call;
  call.code = rpc::RpcCode::kLeapWorkerInfo;
  call.status = rpc::RequestStatus::kRpc;
  call.req_id = connection.new_request_id();
  call.reply_header = &reply;
  const Result<std::size_t> answered = co_await connection.call(call);
  if (!answered.ok()) co_return answered.error();
  if (reply.web_port() == 0 || reply.web_port() > UINT16_MAX) {
    co_return Error(Errc::kProtocol, "the worker names no HTTP port").in(ErrorDomain::kRpc);
  }
  WorkerInfo info;
  info.web_port = static_cast<std::uint16_t>(reply.web_port());
  info.release_version = reply.release_version();
  info.cluster_id = reply.cluster_id();
  co_return info;
}

}  // namespace leap
