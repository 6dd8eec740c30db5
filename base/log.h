// log.h: one line per event to stderr (or a file), by spdlog. Never on a polled path per request.
// FILER_LOG_INFO("volume {}: {} blocks", name, count). Any thread.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace filer {

// Names the process in every line and sets the level ("debug", "info", "warn", "error"; unknown:
// info). Call once, in main.
void InitLog(const std::string& process_name, const std::string& level = "info");

}  // namespace filer

#define FILER_LOG_DEBUG(...) SPDLOG_DEBUG(__VA_ARGS__)
#define FILER_LOG_INFO(...) SPDLOG_INFO(__VA_ARGS__)
#define FILER_LOG_WARN(...) SPDLOG_WARN(__VA_ARGS__)
#define FILER_LOG_ERROR(...) SPDLOG_ERROR(__VA_ARGS__)
