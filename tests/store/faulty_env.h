// FaultyEnv: the files under RocksDB fail on request, as a full or a dying file system does.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include <rocksdb/env.h>

namespace leap::test {

class FaultyEnv final : public rocksdb::EnvWrapper {
 public:
  enum class What { kAppend, kSync, kNoSpace };

  FaultyEnv() : EnvWrapper(rocksdb::Env::Default()) {}
  [[nodiscard]] const char* Name() const override { return "FaultyEnv"; }

  /// The `n`-th operation of that kind from now on (0: the next) and all after it fail until heal().
  void fail_from(What what, int n) {
    what_ = what;
    left_ = n;
    armed_ = true;
  }
  void heal() { armed_ = false; }

  rocksdb::Status NewWritableFile(const std::string& name, std::unique_ptr<rocksdb::WritableFile>* file,
                                  const rocksdb::EnvOptions& options) override {
    rocksdb::Status made = target()->NewWritableFile(name, file, options);
    if (made.ok()) *file = std::make_unique<File>(*this, std::move(*file));
    return made;
  }

 private:
  class File final : public rocksdb::WritableFileWrapper {
   public:
    File(FaultyEnv& env, std::unique_ptr<rocksdb::WritableFile> file)
        : WritableFileWrapper(file.get()), env_(env), file_(std::move(file)) {}
    rocksdb::Status Append(const rocksdb::Slice& data) override {
      // A failure in the middle: what was handed over may be in the file.
      rocksdb::Status done = file_->Append(data);
      return env_.judge(What::kAppend, done);
    }
    rocksdb::Status Append(const rocksdb::Slice& data, const rocksdb::DataVerificationInfo& /*info*/) override {
      return Append(data);
    }
    rocksdb::Status Sync() override { return env_.judge(What::kSync, file_->Sync()); }
    rocksdb::Status Fsync() override { return env_.judge(What::kSync, file_->Fsync()); }

   private:
    FaultyEnv& env_;
    std::unique_ptr<rocksdb::WritableFile> file_;
  };

  rocksdb::Status judge(What what, rocksdb::Status done) {
    const bool counts = what == what_ || (what == What::kAppend && what_ == What::kNoSpace);
    if (!armed_ || !counts || left_-- > 0) return done;
    left_ = -1;
    return what_ == What::kNoSpace ? rocksdb::Status::NoSpace("on purpose") : rocksdb::Status::IOError("on purpose");
  }

  std::atomic<bool> armed_{false};
  std::atomic<What> what_{What::kAppend};
  std::atomic<int> left_{0};
};

}  // namespace leap::test
