#include "rpc/codes.h"

namespace leap::rpc {

std::string_view to_string(RpcCode code) {
  switch (code) {
    case RpcCode::kUndefined: return "Undefined";
    case RpcCode::kWriteBlock: return "WriteBlock";
    case RpcCode::kReadBlock: return "ReadBlock";
    case RpcCode::kLeapWorkerInfo: return "LeapWorkerInfo";
  }
  return "?";
}

std::string_view to_string(RequestStatus status) {
  switch (status) {
    case RequestStatus::kHeartbeat: return "Heartbeat";
    case RequestStatus::kRpc: return "Rpc";
    case RequestStatus::kOpen: return "Open";
    case RequestStatus::kRunning: return "Running";
    case RequestStatus::kCancel: return "Cancel";
    case RequestStatus::kComplete: return "Complete";
    case RequestStatus::kUndefined: return "Undefined";
  }
  return "?";
}

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kIo: return "IO";
    case ErrorKind::kNotLeaderMaster: return "NotLeaderMaster";
    case ErrorKind::kRaft: return "Raft";
    case ErrorKind::kTimeout: return "Timeout";
    case ErrorKind::kProtobufDecode: return "PBDecode";
    case ErrorKind::kProtobufEncode: return "PBEncode";
    case ErrorKind::kFileAlreadyExists: return "FileAlreadyExists";
    case ErrorKind::kFileNotFound: return "FileNotFound";
    case ErrorKind::kInvalidFileSize: return "InvalidFileSize";
    case ErrorKind::kParentNotDir: return "ParentNotDir";
    case ErrorKind::kDirNotEmpty: return "DirNotEmpty";
    case ErrorKind::kAbnormalData: return "AbnormalData";
    case ErrorKind::kBlockIsWriting: return "BlockIsWriting";
    case ErrorKind::kBlockInfo: return "BlockInfo";
    case ErrorKind::kLease: return "Lease";
    case ErrorKind::kInvalidPath: return "InvalidPath";
    case ErrorKind::kDiskOutOfSpace: return "DiskOutOfSpace";
    case ErrorKind::kInProgress: return "InProgress";
    case ErrorKind::kUnsupported: return "Unsupported";
    case ErrorKind::kUfs: return "Ufs";
    case ErrorKind::kExpired: return "Expired";
    case ErrorKind::kUnsupportedUfsRead: return "UnsupportedUfsRead";
    case ErrorKind::kJobNotFound: return "JobNotFound";
    case ErrorKind::kPipeline: return "Pipeline";
    case ErrorKind::kMinReplicasNotMet: return "MinReplicasNotMet";
    case ErrorKind::kIsADirectory: return "IsADirectory";
    case ErrorKind::kNotADirectory: return "NotADirectory";
    case ErrorKind::kInvalidArgument: return "InvalidArgument";
    case ErrorKind::kBlockNotFound: return "BlockNotFound";
    case ErrorKind::kReadOnly: return "ReadOnly";
    case ErrorKind::kNoAvailableWorker: return "NoAvailableWorker";
    case ErrorKind::kNoLocalPath: return "NoLocalPath";
    case ErrorKind::kTransferOverloaded: return "TransferOverloaded";
    case ErrorKind::kTransferStoreUnavailable: return "TransferStoreUnavailable";
    case ErrorKind::kTransferAlreadyRunning: return "TransferAlreadyRunning";
    case ErrorKind::kTransferTargetConflict: return "TransferTargetConflict";
    case ErrorKind::kCommon: return "Common";
  }
  return "?";
}

}  // namespace leap::rpc
