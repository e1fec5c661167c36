// Every getter of ConfigFile: what it takes, what it refuses and where it says the mistake is.

#include "env/config_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <functional>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/random.h"
#include "base/units.h"
#include "support/temp_dir.h"

namespace leap {
namespace {

using test::TempDir;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

ConfigFile parse(std::string_view text) { return ConfigFile::parse(text, "f.toml").value(); }

std::string problems(ConfigFile& file) {
  const Result<> finished = file.finish();
  return finished.ok() ? "" : finished.error().message();
}

std::string parse_error(std::string_view text) {
  const auto file = ConfigFile::parse(text, "f.toml");
  return file.ok() ? "no error" : file.error().message();
}

// --- values ---

TEST(ConfigFile, GettersReadEveryType) {
  ConfigFile file = parse(R"(
name = "worker"
on = true
off = false
count = -7
hex = 0x1F
memory = "1.5GB"
bytes = 4096
wait = "10m"
millis = 250
list = ["a", "b"]
none = []
[sub]
key = "inside"
)");
  ConfigTable root = file.root();
  EXPECT_EQ(root.string("name", "x"), "worker");
  EXPECT_TRUE(root.boolean("on", false));
  EXPECT_FALSE(root.boolean("off", true));
  EXPECT_EQ(root.integer("count", 0, -10, 10), -7);
  EXPECT_EQ(root.integer("hex", 0, 0, 100), 31);
  EXPECT_EQ(root.size("memory", 0), 3 * kGiB / 2);
  EXPECT_EQ(root.size("bytes", 0), 4096U);
  EXPECT_EQ(root.duration("wait", Nanos{0}), std::chrono::minutes(10));
  EXPECT_EQ(root.duration("millis", Nanos{0}), std::chrono::milliseconds(250));
  EXPECT_THAT(root.strings("list"), ElementsAre("a", "b"));
  EXPECT_THAT(root.strings("none"), IsEmpty());
  EXPECT_EQ(root.table("sub").string("key"), "inside");
  EXPECT_EQ(problems(file), "");
}

TEST(ConfigFile, AbsentKeysGiveTheFallback) {
  ConfigFile file = parse("");
  ConfigTable root = file.root();
  EXPECT_EQ(root.string("a", "default"), "default");
  EXPECT_EQ(root.string("a"), "");
  EXPECT_TRUE(root.boolean("a", true));
  EXPECT_EQ(root.integer("a", 500, 0, 10), 500);  // a default is the program's business, even outside the range
  EXPECT_EQ(root.size("a", 9), 9U);
  EXPECT_EQ(root.duration("a", Nanos{3}), Nanos{3});
  EXPECT_THAT(root.strings("a"), IsEmpty());
  EXPECT_THAT(root.tables("a"), IsEmpty());
  ConfigTable absent = root.table("a").table("b");
  EXPECT_FALSE(absent.present());
  EXPECT_FALSE(absent.has("c"));
  EXPECT_EQ(absent.integer("c", 4, 0, 10), 4);
  EXPECT_THAT(absent.table_names(), IsEmpty());
  absent.accept_rest();
  absent.accept("c");
  EXPECT_EQ(problems(file), "");
}

TEST(ConfigFile, AnEmptyTextMeansNotGivenWhereCurvineWritesItSo) {
  ConfigFile file = parse("a = \"\"\nb = \"\"\nc = \"\"\n");
  EXPECT_EQ(file.root().size("a", 7), 7U);
  EXPECT_EQ(file.root().duration("b", Nanos{8}), Nanos{8});
  EXPECT_EQ(file.root().string("c", "fallback"), "");  // of a plain text it is a value
  EXPECT_EQ(problems(file), "");
}

// --- mistakes ---

struct Mistake {
  const char* text;  // the line of the key, the second of the file
  std::function<void(ConfigTable&)> get;
  const char* message;
};

TEST(ConfigFile, MistakesAreReportedWithFileLineKeyAndReason) {
  const std::vector<Mistake> mistakes = {
      {"k = 1", [](ConfigTable& t) { EXPECT_EQ(t.string("k", "d"), "d"); }, "must be a string"},
      {"k = [\"a\"]", [](ConfigTable& t) { EXPECT_EQ(t.string("k", "d"), "d"); }, "must be a string"},
      {"k = {a = 1}", [](ConfigTable& t) { EXPECT_EQ(t.string("k", "d"), "d"); }, "must be a string"},
      {"k = 1", [](ConfigTable& t) { EXPECT_TRUE(t.boolean("k", true)); }, "must be true or false"},
      {"k = \"true\"", [](ConfigTable& t) { EXPECT_FALSE(t.boolean("k", false)); }, "must be true or false"},
      {"k = 1.0", [](ConfigTable& t) { EXPECT_EQ(t.integer("k", 5, 0, 9), 5); }, "must be a whole number"},
      {"k = \"1\"", [](ConfigTable& t) { EXPECT_EQ(t.integer("k", 5, 0, 9), 5); }, "must be a whole number"},
      {"k = true", [](ConfigTable& t) { EXPECT_EQ(t.integer("k", 5, 0, 9), 5); }, "must be a whole number"},
      {"k = 2024-01-01", [](ConfigTable& t) { EXPECT_EQ(t.integer("k", 5, 0, 9), 5); }, "must be a whole number"},
      {"k = 10", [](ConfigTable& t) { EXPECT_EQ(t.integer("k", 5, 0, 9), 5); }, "10 is not in 0..9"},
      {"k = -1", [](ConfigTable& t) { EXPECT_EQ(t.integer("k", 5, 0, 9), 5); }, "-1 is not in 0..9"},
      {"k = 9223372036854775807", [](ConfigTable& t) { EXPECT_EQ(t.integer("k", 5, 0, 9), 5); },
       "9223372036854775807 is not in 0..9"},
      {"k = \"banana\"", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5), 5U); }, "size \"banana\""},
      {"k = \"1XB\"", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5), 5U); }, "unknown unit"},
      {"k = \"99999999999PB\"", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5), 5U); }, "too large"},
      {"k = -5", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5), 5U); }, "size \"-5\""},
      {"k = 1.5", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5), 5U); }, "must be a size such as \"1024MB\""},
      {"k = [\"1GB\"]", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5), 5U); }, "must be a size"},
      {"k = \"1K\"", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5, 2048), 5U); }, "1K is less than 2.0 KiB"},
      {"k = \"1M\"", [](ConfigTable& t) { EXPECT_EQ(t.size("k", 5, 1, 1024), 5U); }, "1M is not in 1 B..1.0 KiB"},
      {"k = \"soon\"", [](ConfigTable& t) { EXPECT_EQ(t.duration("k", Nanos{5}), Nanos{5}); }, "duration \"soon\""},
      {"k = \"-3s\"", [](ConfigTable& t) { EXPECT_EQ(t.duration("k", Nanos{5}), Nanos{5}); }, "duration \"-3s\""},
      {"k = 0.5", [](ConfigTable& t) { EXPECT_EQ(t.duration("k", Nanos{5}), Nanos{5}); },
       "must be a duration such as \"30s\""},
      {"k = \"1ms\"", [](ConfigTable& t) { EXPECT_EQ(t.duration("k", Nanos{5}, std::chrono::seconds(1)), Nanos{5}); },
       "1ms is less than 1.0 s"},
      {"k = \"2s\"",
       [](ConfigTable& t) { EXPECT_EQ(t.duration("k", Nanos{5}, Nanos{0}, std::chrono::seconds(1)), Nanos{5}); },
       "2s is not in 0 ns..1.0 s"},
      {"k = \"a\"", [](ConfigTable& t) { EXPECT_THAT(t.strings("k"), IsEmpty()); }, "must be a list of strings"},
      {"k = [\"a\", 1]", [](ConfigTable& t) { EXPECT_THAT(t.strings("k"), ElementsAre("a")); },
       "must be a list of strings"},
      {"k = 5", [](ConfigTable& t) { EXPECT_FALSE(t.table("k").present()); }, "must be a table"},
      {"k = [1]", [](ConfigTable& t) { EXPECT_FALSE(t.table("k").present()); }, "must be a table"},
      {"k = 5", [](ConfigTable& t) { EXPECT_THAT(t.tables("k"), IsEmpty()); }, "must be tables ([[t.k]])"},
      {"k = {a = 1}", [](ConfigTable& t) { EXPECT_THAT(t.tables("k"), IsEmpty()); }, "must be tables ([[t.k]])"},
      {"k = [{}, 1]", [](ConfigTable& t) { EXPECT_EQ(t.tables("k").size(), 1U); }, "must be tables ([[t.k]])"},
  };
  for (const Mistake& mistake : mistakes) {
    ConfigFile file = parse(fmt::format("[t]\n{}\n", mistake.text));
    ConfigTable table = file.root().table("t");
    mistake.get(table);
    const std::string message = problems(file);
    EXPECT_THAT(message, StartsWith("f.toml:2: t.k: ")) << mistake.text;
    EXPECT_THAT(message, HasSubstr(mistake.message)) << mistake.text;
    // One mistake, one line: what is inside a value of the wrong type is not unknown besides.
    EXPECT_EQ(std::ranges::count(message, '\n'), 0) << message;
  }
}

TEST(ConfigFile, WhatTheProgramReportsGoesToTheLineOfTheKeyOrOfItsTable) {
  ConfigFile file = parse("a = 1\n\n[t]\nb = 2\n");
  ConfigTable root = file.root();
  ConfigTable table = root.table("t");
  static_cast<void>(root.integer("a", 0, 0, 9));
  static_cast<void>(table.integer("b", 0, 0, 9));
  table.report("b", "is odd");
  table.report("missing", "is required");
  root.report("", "does not add up");
  root.table("nowhere").report("x", "is required");
  EXPECT_EQ(problems(file),
            "f.toml: nowhere.x: is required\n"
            "f.toml:1: does not add up\n"
            "f.toml:3: t.missing: is required\n"
            "f.toml:4: t.b: is odd");
}

// --- keys nobody asked for ---

TEST(ConfigFile, UnknownKeysAreReportedAtEveryLevel) {
  ConfigFile file = parse(R"(top = 1
[a]
known = 1
b1 = 2
[a.sub]
deep = 3
[a.other]
x = 1
[[list]]
known = 1
[[list]]
known = 2
stray = 3
[[list.inner]]
y = 1
z = 2
[unread]
p = 1
q = 2
inline.dotted = 5
)");
  ConfigTable root = file.root();
  ConfigTable a = root.table("a");
  static_cast<void>(a.integer("known", 0, 0, 9));
  static_cast<void>(a.table("sub"));
  for (ConfigTable& element : root.tables("list")) {
    static_cast<void>(element.integer("known", 0, 0, 9));
    for (ConfigTable& inner : element.tables("inner")) static_cast<void>(inner.integer("y", 0, 0, 9));
  }
  EXPECT_EQ(problems(file),
            "f.toml:1: unknown key 'top'\n"
            "f.toml:4: unknown key 'a.b1'\n"
            "f.toml:6: unknown key 'a.sub.deep'\n"
            "f.toml:7: unknown key 'a.other'\n"
            "f.toml:13: unknown key 'list.stray'\n"
            "f.toml:16: unknown key 'list.inner.z'\n"
            "f.toml:17: unknown key 'unread'");
}

TEST(ConfigFile, UnknownKeysInInlineTablesAreFoundToo) {
  ConfigFile file = parse("t = { a = 1, b = 2 }\nlist = [ { a = 1 },\n { c = 2 } ]\n");
  static_cast<void>(file.root().table("t").integer("a", 0, 0, 9));
  for (ConfigTable& element : file.root().tables("list")) static_cast<void>(element.integer("a", 0, 0, 9));
  EXPECT_EQ(problems(file), "f.toml:1: unknown key 't.b'\nf.toml:3: unknown key 'list.c'");
}

TEST(ConfigFile, AcceptedSectionsMayHoldAnything) {
  ConfigFile file = parse("[a]\nx = 1\n[a.b.c]\ny = [{z = 1}]\n[d]\ne = {f = 1}\ng = 1\n");
  file.root().table("a").accept_rest();
  file.root().table("d").accept("e");
  EXPECT_EQ(problems(file), "f.toml:7: unknown key 'd.g'");
}

TEST(ConfigFile, ReportsAllProblemsAtOnceInTheOrderOfLinesAndAgainWhenAskedAgain) {
  ConfigFile file = parse("z = 1\na = \"x\"\nm = 3\nb = 99\n");
  ConfigTable root = file.root();
  static_cast<void>(root.integer("b", 0, 0, 9));
  static_cast<void>(root.integer("a", 0, 0, 9));
  const std::string all =
      "f.toml:1: unknown key 'z'\nf.toml:2: a: must be a whole number\nf.toml:3: unknown key 'm'\nf.toml:4: b: 99 is "
      "not in 0..9";
  EXPECT_EQ(problems(file), all);
  EXPECT_EQ(problems(file), all);
  EXPECT_EQ(file.finish().error().kind(), Errc::kInvalidArgument);
  EXPECT_EQ(file.finish().error().domain(), ErrorDomain::kConfig);
}

TEST(ConfigFile, AFloodOfProblemsIsCutShort) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += fmt::format("k{} = 1\n", i);
  ConfigFile file = parse(text);
  const std::string message = problems(file);
  EXPECT_EQ(std::ranges::count(message, '\n'), 100);
  EXPECT_THAT(message, testing::EndsWith("f.toml: and 900 more"));
}

TEST(ConfigFile, ControlCharactersOfKeysAndValuesDoNotReachTheMessage) {
  ConfigFile file = parse("\"a\\nf.toml:9: forged\" = 1\n\"\\u001b[2J\" = 1\ns = \"x\\ny\"\n");
  static_cast<void>(file.root().size("s", 0));
  const std::string message = problems(file);
  EXPECT_EQ(std::ranges::count(message, '\n'), 2) << message;
  EXPECT_THAT(message, Not(HasSubstr("\x1b")));
}

TEST(ConfigFile, TableNamesComeInTheOrderOfTheFile) {
  ConfigFile file = parse("x = 1\n[zebra]\n[apple]\n[mango.sub]\n[beta]\n");
  EXPECT_THAT(file.root().table_names(), ElementsAre("zebra", "apple", "mango", "beta"));
}

TEST(ConfigFile, SurvivesBeingMoved) {
  ConfigFile first = parse("a = 1\nb = 2\n");
  static_cast<void>(first.root().integer("a", 0, 0, 9));
  ConfigFile second = std::move(first);
  EXPECT_EQ(second.name(), "f.toml");
  EXPECT_EQ(problems(second), "f.toml:2: unknown key 'b'");
}

// --- files ---

TEST(ConfigFile, SyntaxErrorsNameLineAndColumn) {
  EXPECT_THAT(parse_error("a = 1\nb = \n"), StartsWith("f.toml:2:"));
  EXPECT_THAT(parse_error("a = 1\n[t\n"), StartsWith("f.toml:2:"));
  EXPECT_THAT(parse_error("a = 1\na = 2\n"), StartsWith("f.toml:2:"));              // a key twice
  EXPECT_THAT(parse_error("[t]\n[u]\n[t]\n"), StartsWith("f.toml:3:"));             // a table twice
  EXPECT_THAT(parse_error("a = 99999999999999999999\n"), StartsWith("f.toml:1:"));  // beyond 64 bits
  EXPECT_THAT(parse_error("a = \"\xff\xfe\"\n"), StartsWith("f.toml:1:"));          // not UTF-8
  EXPECT_THAT(parse_error(std::string_view("a = 1\n\0b = 2\n", 13)), StartsWith("f.toml:2:"));
  EXPECT_THAT(parse_error("\x7f\x45\x4c\x46\x02\x01\x01"), StartsWith("f.toml:1:"));
  EXPECT_THAT(parse_error("{\"json\": true}"), StartsWith("f.toml:1:"));
}

TEST(ConfigFile, RefusesWhatIsTooLongOrTooDeepToBeAConfiguration) {
  EXPECT_THAT(parse_error(std::string(kMiB + 1, '#')), HasSubstr("longer than 1.0 MiB"));
  EXPECT_EQ(parse_error(std::string(kMiB, '#')), "no error");
  std::string key;
  for (int i = 0; i < 200'000; ++i) key += "a.";
  EXPECT_THAT(parse_error(key + "a = 1"), HasSubstr("dots"));
  EXPECT_THAT(parse_error("[" + key + "a]"), HasSubstr("dots"));
  EXPECT_THAT(parse_error("a = " + std::string(100'000, '[')), StartsWith("f.toml:1:"));
}

TEST(ConfigFile, TheDeepestKeysThatAreAllowedAreRead) {
  std::string key;
  for (int i = 0; i < 8192; ++i) key += "a.";
  {
    ConfigFile file = parse(key + "a = 1\n");
    EXPECT_EQ(problems(file), "f.toml:1: unknown key 'a'");
  }
  ConfigFile accepted = parse("[" + key + "a]\n");
  accepted.root().accept_rest();
  EXPECT_EQ(problems(accepted), "");
}

TEST(ConfigFile, LoadsFromTheFileSystem) {
  const TempDir dir;
  ConfigFile file = ConfigFile::load(dir.write("a.toml", "a = 1\n")).value();
  EXPECT_EQ(file.name(), dir.file("a.toml"));
  EXPECT_EQ(problems(file), dir.file("a.toml") + ":1: unknown key 'a'");
  ConfigFile empty = ConfigFile::load(dir.write("empty.toml", "")).value();
  EXPECT_EQ(problems(empty), "");
  ConfigFile crlf = ConfigFile::load(dir.write("crlf.toml",
                                               "\xef\xbb\xbf"
                                               "a = 1\r\nb = 2\r\n"))
                        .value();
  EXPECT_EQ(crlf.root().integer("a", 0, 0, 9), 1);
  EXPECT_THAT(problems(crlf), HasSubstr(":2: unknown key 'b'"));
}

TEST(ConfigFile, WhatCannotBeReadIsAnErrorThatNamesIt) {
  const TempDir dir;
  const auto failure = [](const std::string& path) {
    const auto file = ConfigFile::load(path);
    return file.ok() ? Error(Errc::kInternal, "no error") : file.error();
  };
  EXPECT_EQ(failure(dir.file("missing.toml")).kind(), Errc::kNotFound);
  EXPECT_THAT(failure(dir.file("missing.toml")).message(), HasSubstr(dir.file("missing.toml") + ": No such file"));
  EXPECT_THAT(failure(dir.path().string()).message(), HasSubstr("Is a directory"));
  EXPECT_THAT(failure(dir.write("x", "") + "/y").message(), HasSubstr("Not a directory"));
  EXPECT_THAT(failure("").message(), HasSubstr("No such file"));
  EXPECT_THAT(failure(dir.write("big.toml", std::string(3 * kMiB, ' '))).message(), HasSubstr("longer than 1.0 MiB"));
  EXPECT_THAT(failure("/dev/zero").message(), HasSubstr("longer than 1.0 MiB"));
}

TEST(ConfigFile, AFileWithoutPermissionIsAnErrorThatSaysSo) {
  const TempDir dir;
  const std::string secret = dir.write("secret.toml", "a = 1");
  ASSERT_EQ(::chmod(secret.c_str(), 0), 0);
  if (::access(secret.c_str(), R_OK) == 0) GTEST_SKIP() << "this user may read everything";
  EXPECT_EQ(ConfigFile::load(secret).error().kind(), Errc::kPermission);
}

// Any change to a valid file gives either a file or an error, and every getter survives what it finds.
TEST(ConfigFile, NoMutationOfAFileBreaksTheReader) {
  const std::string valid = R"(
format_worker = true
[worker]
rpc_port = 8997
io_timeout = "30s"
data_dir = ["[SPDK_DISK]/a", "b"]
[worker.spdk_disk]
hugepage = "1024MB"
poll_interval = 100
[[worker.spdk_disk.targets]]
traddr = "127.0.0.1"
extra = { a = [1, 2], b = 'c' }
[[worker.spdk_disk.targets]]
traddr = """multi
line"""
)";
  constexpr std::string_view kPieces[] = {"[",      "]",    "[[",   "=", "\"", "\"\"\"", "'",
                                          ".",      "\n",   "{",    "}", ",",  "#",      "\\u0000",
                                          "1e999",  "0x",   "true", "-", "\0", "\xff",   "99999999999999999999",
                                          "worker", "a.b.c"};
  Rng rng(20240607);
  std::size_t readable = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = valid;
    const std::uint64_t changes = 1 + rng.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) {
      const auto at = static_cast<std::size_t>(rng.below(text.size() + 1));
      const auto count = static_cast<std::size_t>(rng.below(12));
      switch (rng.below(4)) {
        case 0: text.erase(at, count); break;
        case 1: text.insert(at, kPieces[rng.below(std::size(kPieces))]); break;
        case 2: text.insert(at, text.substr(static_cast<std::size_t>(rng.below(text.size() + 1)), count)); break;
        default:
          if (at < text.size()) text[at] = static_cast<char>(rng.below(256));
          break;
      }
    }
    auto parsed = ConfigFile::parse(text, "f.toml");
    if (!parsed.ok()) {
      ASSERT_THAT(parsed.error().message(), StartsWith("f.toml:"));
      continue;
    }
    ++readable;
    ConfigTable worker = parsed->root().table("worker");
    static_cast<void>(worker.integer("rpc_port", 0, 1, 65535));
    static_cast<void>(worker.duration("io_timeout", Nanos{0}));
    static_cast<void>(worker.strings("data_dir"));
    ConfigTable disk = worker.table("spdk_disk");
    static_cast<void>(disk.size("hugepage", 0));
    for (ConfigTable& target : disk.tables("targets")) static_cast<void>(target.string("traddr"));
    static_cast<void>(parsed->root().table_names());
    if (rng.below(2) == 0) worker.accept_rest();
    const Result<> finished = parsed->finish();
    if (!finished.ok()) {
      ASSERT_THAT(finished.error().message(), StartsWith("f.toml"));
    }
  }
  EXPECT_GT(readable, 100U);  // or the mutations are too wild to test anything but the parser
}

}  // namespace
}  // namespace leap
