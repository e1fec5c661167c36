#include "client/worker_info.h"

#include <fmt/format.h>

#include "proto/leap.pb.h"

namespace leap {

namespace {

WorkerConnection::Call info_call(WorkerConnection& connection, proto::LeapWorkerInfoResponse& reply) {
  WorkerConnection::Call call;
  call.code = rpc::RpcCode::kLeapWorkerInfo;
  call.status = rpc::RequestStatus::kRpc;
  call.req_id = connection.new_request_id();
  call.reply_header = &reply;
  return call;
}

}  // namespace

Task<Result<WorkerInfo>> fetch_worker_info(WorkerConnection& connection) {
  proto::LeapWorkerInfoResponse reply;
  const Result<std::size_t> answered = co_await connection.call(info_call(connection, reply));
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

Task<Result<RemoteBlock>> fetch_block_info(WorkerConnection& connection, BlockId id) {
  proto::LeapWorkerInfoRequest request;
  request.set_block_id(id.value());
  proto::LeapWorkerInfoResponse reply;
  WorkerConnection::Call call = info_call(connection, reply);
  call.header = &request;
  const Result<std::size_t> answered = co_await connection.call(call);
  if (!answered.ok()) co_return answered.error();
  const proto::LeapBlockInfo& block = reply.block();
  if (!reply.has_block() || block.id() != id.value()) {
    co_return Error(Errc::kProtocol, fmt::format("the worker says nothing about block {}", id)).in(ErrorDomain::kRpc);
  }
  RemoteBlock found;
  found.info.id = id;
  found.info.state = block.finalized() ? BlockState::kFinalized : BlockState::kWriting;
  found.info.length = block.length();
  found.info.capacity = block.capacity();
  found.info.generation = block.generation();
  found.info.allocated_bytes = block.allocated_bytes();
  found.info.rewriting = block.rewriting();
  found.info.damaged = block.damaged();
  found.storage_type = block.storage_type();
  co_return found;
}

}  // namespace leap
