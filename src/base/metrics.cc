#include "base/metrics.h"

#include <array>
#include <iterator>

#include <fmt/format.h>

#include "base/check.h"

namespace leap {
namespace {

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out.push_back(c);
    }
  }
}

// One sample line; `extra_name` is the quantile or le label, which comes after the caller's.
void append_sample(std::string& out, std::string_view name, std::string_view suffix, const MetricLabels& labels,
                   std::string_view extra_name, std::string_view extra_value, std::string_view value) {
  out += name;
  out += suffix;
  char separator = '{';
  const auto label = [&](std::string_view key, std::string_view text) {
    out.push_back(separator);
    separator = ',';
    out += key;
    out += "=\"";
    append_escaped(out, text, true);
    out.push_back('"');
  };
  for (const auto& [key, text] : labels) label(key, text);
  if (!extra_name.empty()) label(extra_name, extra_value);
  if (separator == ',') out.push_back('}');
  out.push_back(' ');
  out += value;
  out.push_back('\n');
}

std::string in_unit(double value, HistogramUnit unit) {
  return fmt::format("{}", unit == HistogramUnit::kNanosAsSeconds ? value / 1e9 : value);
}

void append_sum_and_count(std::string& out, std::string_view name, const Histogram& histogram,
                          const MetricLabels& labels, HistogramUnit unit, std::uint64_t count) {
  append_sample(out, name, "_sum", labels, {}, {}, in_unit(static_cast<double>(histogram.sum()), unit));
  append_sample(out, name, "_count", labels, {}, {}, fmt::format("{}", count));
}

}  // namespace

std::string& MetricsText::samples_of(std::string_view name, std::string_view help, std::string_view type) {
  // A page has tens of families and samples arrive family by family: the last one is the likely hit.
  for (auto family = families_.rbegin(); family != families_.rend(); ++family) {
    if (family->name != name) continue;
    LEAP_CHECK(family->type == type, fmt::format("metric {} is a {} and a {}", name, family->type, type));
    return family->samples;
  }
  Family& family = families_.emplace_back();
  family.name = name;
  family.type = type;
  family.head = fmt::format("# HELP {} ", name);
  append_escaped(family.head, help, false);
  family.head += fmt::format("\n# TYPE {} {}\n", name, type);
  return family.samples;
}

void MetricsText::counter(std::string_view name, std::string_view help, std::uint64_t value,
                          const MetricLabels& labels) {
  append_sample(samples_of(name, help, "counter"), name, {}, labels, {}, {}, fmt::format("{}", value));
}

void MetricsText::gauge(std::string_view name, std::string_view help, std::int64_t value, const MetricLabels& labels) {
  append_sample(samples_of(name, help, "gauge"), name, {}, labels, {}, {}, fmt::format("{}", value));
}

void MetricsText::gauge_real(std::string_view name, std::string_view help, double value, const MetricLabels& labels) {
  append_sample(samples_of(name, help, "gauge"), name, {}, labels, {}, {}, in_unit(value, HistogramUnit::kPlain));
}

void MetricsText::summary(std::string_view name, std::string_view help, const Histogram& histogram,
                          const MetricLabels& labels, HistogramUnit unit) {
  const Histogram snapshot(histogram);  // NOLINT(performance-unnecessary-copy-initialization): see histogram()
  std::string& out = samples_of(name, help, "summary");
  for (const double quantile : {0.5, 0.9, 0.99, 0.999, 1.0}) {
    append_sample(out, name, {}, labels, "quantile", fmt::format("{}", quantile),
                  in_unit(static_cast<double>(snapshot.percentile_value(quantile * 100)), unit));
  }
  append_sum_and_count(out, name, snapshot, labels, unit, snapshot.count());
}

void MetricsText::histogram(std::string_view name, std::string_view help, const Histogram& histogram,
                            const MetricLabels& labels, HistogramUnit unit, std::span<const std::uint64_t> bounds) {
  // The page must add up (buckets ascend, +Inf equals _count) although the owner keeps recording: work on a copy.
  const Histogram snapshot(histogram);  // NOLINT(performance-unnecessary-copy-initialization): it changes under us
  std::string& out = samples_of(name, help, "histogram");
  for (const std::uint64_t bound : bounds.empty() ? default_bounds() : bounds) {
    append_sample(out, name, "_bucket", labels, "le", in_unit(static_cast<double>(bound), unit),
                  fmt::format("{}", snapshot.count_at_or_below(bound)));
  }
  const std::uint64_t count = snapshot.count();
  append_sample(out, name, "_bucket", labels, "le", "+Inf", fmt::format("{}", count));
  append_sum_and_count(out, name, snapshot, labels, unit, count);
}

std::span<const std::uint64_t> MetricsText::default_bounds() {
  static constexpr std::array<std::uint64_t, 22> kBounds{
      1'000,       2'500,       5'000,         10'000,        25'000,        50'000,        100'000,    250'000,
      500'000,     1'000'000,   2'500'000,     5'000'000,     10'000'000,    25'000'000,    50'000'000, 100'000'000,
      250'000'000, 500'000'000, 1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000};
  return kBounds;
}

std::string MetricsText::text() const {
  std::string page;
  for (const Family& family : families_) {
    page += family.head;
    page += family.samples;
  }
  return page;
}

}  // namespace leap
