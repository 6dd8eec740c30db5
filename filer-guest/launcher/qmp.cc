#include "filer-guest/launcher/qmp.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <istream>
#include <optional>

namespace filer::guest {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using Local = asio::local::stream_protocol;

constexpr int kSkippedLinesMax = 1000;

}  // namespace

struct QmpClient::State {
  asio::io_context context;
  Local::socket socket{context};
  std::string input;
  std::int64_t next_id = 1;

  // Starts an operation by `start(handler)` and runs it until it is done or the deadline passed.
  template <typename Start>
  Result<void> RunUntil(Clock::time_point deadline, Start&& start) {
    std::optional<boost::system::error_code> outcome;
    start([&outcome](boost::system::error_code error) { outcome = error; });
    context.restart();
    context.run_until(deadline);
    if (!outcome) {
      boost::system::error_code ignored;
      socket.close(ignored);
      context.restart();
      context.run();  // the cancelled operation's handler still refers to `outcome`
      return Error(Errc::kTimedOut, "QEMU's monitor did not answer in time");
    }
    if (!*outcome) return Ok();
    if (*outcome == asio::error::not_found) {
      return Error(Errc::kProtocol, "QEMU's monitor sent a line that does not end");
    }
    if (*outcome == asio::error::eof || *outcome == asio::error::connection_reset ||
        *outcome == asio::error::broken_pipe) {
      return Error(Errc::kDeviceGone, "QEMU closed its monitor");
    }
    return Error::System(outcome->value(), "QEMU's monitor");
  }

  Result<Json> ReadMessage(Clock::time_point deadline) {
    std::size_t length = 0;
    FILER_TRY(RunUntil(deadline, [&](auto done) {
      asio::async_read_until(socket, asio::dynamic_buffer(input, kQmpLineBytesMax), '\n',
                             [&length, done](boost::system::error_code error, std::size_t size) {
                               length = size;
                               done(error);
                             });
    }));
    Json message = Json::parse(input.substr(0, length), nullptr, false);
    input.erase(0, length);
    if (!message.is_object()) return Error(Errc::kProtocol, "QEMU's monitor sent no JSON object");
    return message;
  }
};

QmpClient::QmpClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
QmpClient::~QmpClient() = default;

Result<std::unique_ptr<QmpClient>> QmpClient::Connect(const std::string& socket_path,
                                                      std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  auto state = std::make_unique<State>();
  try {
    const Local::endpoint endpoint(socket_path);
    boost::system::error_code error;
    state->socket.connect(endpoint, error);
    if (error) return Error(Errc::kNotRunning, socket_path + ": no QEMU listens");
  } catch (const std::exception& error) {
    return Error(Errc::kTooBig, socket_path + ": " + error.what());
  }
  const Json greeting = FILER_TRY(state->ReadMessage(deadline));
  if (!greeting.contains("QMP")) return Error(Errc::kProtocol, socket_path + ": no QMP greeting");
  std::unique_ptr<QmpClient> client(new QmpClient(std::move(state)));
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
  FILER_TRY(client->Execute("qmp_capabilities", Json::object(), left));
  return client;
}

Result<Json> QmpClient::Execute(const std::string& command, const Json& arguments,
                                std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  if (!state_->socket.is_open()) return Error(Errc::kDeviceGone, "QEMU's monitor is closed");
  const std::int64_t id = state_->next_id++;
  Json request{{"execute", command}, {"id", id}};
  if (!arguments.empty()) request["arguments"] = arguments;
  const std::string line = request.dump() + "\n";
  FILER_TRY(state_->RunUntil(deadline, [&](auto done) {
    asio::async_write(state_->socket, asio::buffer(line),
                      [done](boost::system::error_code error, std::size_t) { done(error); });
  }));
  for (int skipped = 0; skipped < kSkippedLinesMax; ++skipped) {
    const Json message = FILER_TRY(state_->ReadMessage(deadline));
    if (message.value("id", Json()) != Json(id)) continue;
    if (message.contains("return")) return message["return"];
    const Json error = message.value("error", Json::object());
    const std::string words =
        error.is_object() && error.contains("desc") && error["desc"].is_string()
            ? error["desc"].get<std::string>()
            : std::string("failed");
    return Error(Errc::kRefused, "QEMU: " + command + ": " + words);
  }
  return Error(Errc::kProtocol, "QEMU's monitor answers everything but " + command);
}

Result<std::vector<int>> CpuThreads(QmpClient& client, std::chrono::milliseconds timeout) {
  const Json cpus = FILER_TRY(client.Execute("query-cpus-fast", Json::object(), timeout));
  std::vector<int> threads;
  if (!cpus.is_array()) return Error(Errc::kProtocol, "query-cpus-fast: no list");
  for (const Json& cpu : cpus) {
    const auto thread = cpu.is_object() ? cpu.find("thread-id") : cpu.end();
    if (!cpu.is_object() || thread == cpu.end() || !thread->is_number_integer()) {
      return Error(Errc::kProtocol, "query-cpus-fast: no thread id");
    }
    threads.push_back(thread->get<int>());
  }
  return threads;
}

}  // namespace filer::guest
