#include "configs/command/top_sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "configs/command/console.h"

namespace filer::command {
namespace {

// How much a counter grew.
std::uint64_t Grew(const Json& before, const Json& after, const char* key) {
  const std::uint64_t first = before.value(key, std::uint64_t{0});
  const std::uint64_t second = after.value(key, std::uint64_t{0});
  return second > first ? second - first : 0;
}

// The volume of that name, or an empty object.
Json VolumeIn(const Json& status, const std::string& name) {
  for (const Json& volume : status.value("volumes", Json::array())) {
    if (volume.value("name", "") == name) return volume;
  }
  return Json::object();
}

struct Bucket {
  double upper_us = 0;
  std::uint64_t count = 0;
};
using Buckets = std::map<std::uint64_t, Bucket>;  // by index: rising time

Buckets BucketsOf(const Json& operation) {
  Buckets buckets;
  for (const Json& row : operation.value("buckets", Json::array())) {
    buckets[row.at(0).get<std::uint64_t>()] = {row.at(1).get<double>() / 1000,
                                               row.at(2).get<std::uint64_t>()};
  }
  return buckets;
}

double Percentile(const Buckets& buckets, std::uint64_t count, double fraction) {
  const auto rank = static_cast<std::uint64_t>(std::ceil(static_cast<double>(count) * fraction));
  std::uint64_t seen = 0;
  for (const auto& [index, bucket] : buckets) {
    seen += bucket.count;
    if (seen >= rank) return bucket.upper_us;
  }
  return 0;
}

// Of the requests between the two.
Json Latencies(const Json& before, const Json& after) {
  Json latencies = Json::object();
  for (const auto& [operation, now] : after.items()) {
    Buckets buckets = BucketsOf(now);
    for (const auto& [index, bucket] : BucketsOf(before.value(operation, Json::object()))) {
      buckets[index].count -= std::min(bucket.count, buckets[index].count);
    }
    std::uint64_t count = 0;
    for (const auto& [index, bucket] : buckets) count += bucket.count;
    if (count == 0) continue;
    latencies[operation] = {{"p50", Percentile(buckets, count, 0.5)},
                            {"p99", Percentile(buckets, count, 0.99)}};
  }
  return latencies;
}

Json VolumeSample(const Json& before, const Json& after, double seconds) {
  const Json first = before.value("counters", Json::object());
  const Json second = after.value("counters", Json::object());
  const auto rate = [&](const char* key) {
    return static_cast<double>(Grew(first, second, key)) / seconds;
  };
  const double read_mb = rate("read_bytes") / 1e6;
  const double write_mb = rate("write_bytes") / 1e6;
  return {{"name", after.value("name", "?")},
          {"connected", after.value("connected", false)},
          {"iops", rate("requests")},
          {"read_iops", rate("reads")},
          {"write_iops", rate("writes")},
          {"flushes_per_s", rate("flushes")},
          {"mb_per_s", read_mb + write_mb},
          {"read_mb_per_s", read_mb},
          {"write_mb_per_s", write_mb},
          {"latency_us", Latencies(before.value("latency", Json::object()),
                                   after.value("latency", Json::object()))},
          {"kicks_per_s", rate("kicks")},
          {"interrupts_per_s", rate("interrupts")},
          {"copied_bytes_per_s", rate("copied_bytes")},
          {"held", Grew(first, second, "holds") > 0},
          {"errors", Grew(first, second, "errors")}};
}

// "12.3k", "4.56M": four characters that matter.
std::string Short(double value) {
  if (value < 1000) return fmt::format("{:.0f}", value);
  if (value < 1e6) return fmt::format("{:.1f}k", value / 1e3);
  return fmt::format("{:.2f}M", value / 1e6);
}

std::string LatencyText(const Json& volume, const char* operation, const char* percentile) {
  const Json found = volume["latency_us"].value(operation, Json::object());
  if (found.empty()) return "-";
  const double us = found[percentile].get<double>();
  return us < 10 ? fmt::format("{:.2f}", us) : fmt::format("{:.0f}", us);
}

}  // namespace

Json TopSample(const Json& before, const Json& after, double seconds) {
  const bool is_same = before.value("pid", 0) == after.value("pid", 0);
  const Json start = is_same ? before : Json::object();
  Json volumes = Json::array();
  for (const Json& volume : after.value("volumes", Json::array())) {
    volumes.push_back(VolumeSample(VolumeIn(start, volume.value("name", "")), volume, seconds));
  }
  const Json first = start.value("poller", Json::object());
  const Json second = after.value("poller", Json::object());
  const auto polls = static_cast<double>(Grew(first, second, "polls"));
  const auto busy = static_cast<double>(Grew(first, second, "busy_polls"));
  return {{"schema", "filer.top/1"},
          {"seconds", seconds},
          {"restarted", !is_same},
          {"volumes", volumes},
          {"poller",
           {{"busy_percent", polls == 0 ? 0 : 100 * busy / polls},
            {"sleeps_per_s", static_cast<double>(Grew(first, second, "sleeps")) / seconds}}}};
}

std::string TopTable(const Json& sample) {
  std::vector<std::vector<std::string>> rows = {{"VOLUME", "IOPS", "READ/s", "WRITE/s", "MB/s",
                                                 "READ p50 us", "p99", "WRITE p50 us", "p99",
                                                 "DOORBELLS/s", "INTERRUPTS/s", "NOTE"}};
  for (const Json& volume : sample["volumes"]) {
    const std::string note = !volume["connected"].get<bool>() ? "no client"
                             : volume["held"].get<bool>()     ? "at its limit"
                                                              : "";
    rows.push_back({volume["name"].get<std::string>(), Short(volume["iops"].get<double>()),
                    Short(volume["read_iops"].get<double>()),
                    Short(volume["write_iops"].get<double>()),
                    fmt::format("{:.1f}", volume["mb_per_s"].get<double>()),
                    LatencyText(volume, "read", "p50"), LatencyText(volume, "read", "p99"),
                    LatencyText(volume, "write", "p50"), LatencyText(volume, "write", "p99"),
                    Short(volume["kicks_per_s"].get<double>()),
                    Short(volume["interrupts_per_s"].get<double>()), note});
  }
  return Table(rows) + fmt::format("poller: {:.0f}% of its rounds had work, {} sleeps/s\n",
                                   sample["poller"]["busy_percent"].get<double>(),
                                   Short(sample["poller"]["sleeps_per_s"].get<double>()));
}

}  // namespace filer::command
