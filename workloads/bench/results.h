// results.h: everything one `filer bench bridge` measured, and what it comes to. Values; no
// threads.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "workloads/bench/statistics.h"
#include "workloads/bench/subject.h"
#include "workloads/bench/verdict.h"

namespace filer::bench {

// One repetition of one cell.
struct Sample {
  double iops = 0, mb_per_s = 0;
  double p50_us = 0, p99_us = 0, p999_us = 0;
  double cpu_us_per_op = 0;  // load and server
  double kicks_per_io = 0, interrupts_per_io = 0;
  std::optional<double> copied_bytes_per_io;
  double ping_pong_ns = 0;  // just before
  std::uint64_t ios = 0, kicks = 0, interrupts = 0;
};
Sample SampleOf(const Measured& measured, const Cell& cell, double ping_pong_ns);
Spread SpreadOf(const std::vector<Sample>& samples, double Sample::*field);
// What every benchmark's runs[] have in common: rates, latencies, costs, `spread`.
Json FiguresJson(const std::vector<Sample>& samples);

struct Run {
  std::string subject;
  BackendKind backend = BackendKind::kNull;
  Cell cell;
  std::vector<Sample> samples;  // by repetition

  Spread Of(double Sample::*field) const { return SpreadOf(samples, field); }
};

struct Skipped {
  std::string subject;
  std::string backend;
  std::string reason;
};

// The bridge while nothing happens, and the first request after each of some pauses.
struct Idle {
  struct FirstRequest {
    std::uint64_t doorbells = 0;
    double us = 0;
  };
  double seconds = 0;
  double cpu_percent = 0;         // of one core: target and initiator together
  double target_cpu_percent = 0;  // its part
  std::vector<FirstRequest> first_requests;
};

// One target under the driver of a Linux guest: what it did, without any speed.
struct FunctionalRow {
  std::string target;
  std::uint32_t depth = 0;  // readers at once, each with one request of 4 KiB
  std::uint64_t ios = 0, doorbells = 0, interrupts = 0;
};

struct Results {
  Json machine;
  CorePair cores;
  int repetitions = 0;
  double seconds_per_run = 0;
  bool is_quick = false;
  std::map<BackendKind, std::uint64_t> volume_bytes;  // offsets are spread over all of it
  std::vector<Run> runs;
  std::vector<Skipped> skipped;
  std::vector<double> ping_pong_ns;  // one per repetition of a cell
  Histogram ping_pong_ticks;
  std::optional<Idle> idle;
  std::vector<FunctionalRow> linux_driver;

  // The run, or nullptr.
  const Run* Find(std::string_view subject, BackendKind backend, const Cell& cell) const;
};

// Rates of one subject over another's, of all cells that both have.
struct Ratio {
  double worst = 0, median = 0;
  std::string worst_cell;
};

// nullopt: not measured in this run.
struct Summary {
  double ping_pong_ns = 0;
  bool is_near = false;
  std::optional<double> added_us_p50, added_us_p99;  // memory backend, 4 KiB reads, depth 1
  std::optional<double> added_trips_p50, added_trips_p99;
  std::map<BackendKind, std::optional<double>> iops_per_poller;  // 4 KiB reads, depth 32
  std::optional<double> storage_daemon_iops_ratio;               // null, 4 KiB reads, depth 32
  std::optional<double> storage_daemon_latency_ratio;  // theirs / ours: null, depth 1, p50
  std::optional<double> rte_vhost_worst_ratio;         // ours / theirs, smallest of all cells
  std::string rte_vhost_worst_cell;
  std::optional<double> file_vs_direct;                   // 4 KiB reads, depth 32
  std::optional<double> kicks_per_io, interrupts_per_io;  // of all runs of the bridge
  std::uint64_t bridge_ios = 0;
  std::optional<Ratio> split_to_packed;             // rings of the bridge, null backend
  std::optional<Ratio> file_to_fio, direct_to_fio;  // on the same file; the backend alone
  std::optional<double> idle_cpu_percent, idle_target_cpu_percent;
  std::optional<double> first_request_doorbells;  // that one of them which is the farthest from 1
  std::optional<double> first_request_us;         // median
};
Summary Summarize(const Results& results);

std::vector<Verdict> Judge(const Summary& summary);

std::string CellName(const Cell& cell);  // "read 4K, depth 32"

// The contract's document, schema filer.bench.bridge/1.
Json ReportJson(const Results& results);
// For a terminal.
std::string ReportTable(const Results& results);
// One self-contained page.
std::string ReportHtml(const Results& results);

}  // namespace filer::bench
