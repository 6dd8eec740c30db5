#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <istream>
#include <thread>

#include "base/json_rpc.h"
#include "base/socket_address.h"

namespace filer {
namespace {

namespace asio = boost::asio;
using Local = asio::local::stream_protocol;

constexpr std::chrono::milliseconds kAcceptPause{100};

// What all sessions share. Of the server's thread alone.
struct Shared {
  Shared(RpcMethods methods_in, const RpcLimits& limits_in)
      : methods(std::move(methods_in)),
        limits(limits_in),
        workers(limits.waiting_threads, limits.waiting_calls_max) {}

  const RpcMethods methods;
  const RpcLimits limits;
  std::size_t session_count = 0;
  asio::io_context context;
  RpcWorkers workers;  // before the context goes, to which they answer
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Local::socket socket, Shared& shared)
      : socket_(std::move(socket)), shared_(shared), timer_(shared.context) {
    ++shared_.session_count;
  }
  ~Session() { --shared_.session_count; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void ReadNext() {
    CloseAfter(shared_.limits.idle_max);
    asio::async_read_until(
        socket_, input_, '\n',
        [self = shared_from_this()](boost::system::error_code error, std::size_t) {
          self->StopClock();
          if (!error) self->Answer();
        });
  }

 private:
  void Answer() {
    std::istream stream(&input_);
    std::string line;
    std::getline(stream, line);
    RpcRequest request = RpcParse(shared_.methods, line);
    if (request.method == nullptr || !request.method->may_wait) return Send(RpcRun(request));
    shared_.workers.Run(std::move(request), [self = shared_from_this()](std::string response) {
      auto& context = self->shared_.context;
      // The session itself goes along: it must end on the server's thread.
      asio::post(context, [self = std::move(self), response = std::move(response)]() mutable {
        self->Send(std::move(response));
      });
    });
  }

  void Send(std::string response) {
    output_ = std::move(response);
    if (output_.empty()) return ReadNext();
    output_ += '\n';
    CloseAfter(shared_.limits.write_max);
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this()](boost::system::error_code error, std::size_t) {
                        self->StopClock();
                        if (!error) self->ReadNext();
                      });
  }

  void CloseAfter(std::chrono::milliseconds patience) {
    const std::uint64_t number = ++clock_number_;
    if (patience.count() == 0) return;
    timer_.expires_after(patience);
    // Weak: the timer must not keep a session whose client has gone.
    timer_.async_wait([weak = weak_from_this(), number](boost::system::error_code stopped) {
      const auto self = weak.lock();
      if (stopped || self == nullptr || self->clock_number_ != number) return;
      boost::system::error_code ignored;
      self->socket_.close(ignored);
    });
  }
  void StopClock() {
    ++clock_number_;  // also one that has expired already and waits for its turn
    timer_.cancel();
  }

  Local::socket socket_;
  Shared& shared_;
  asio::steady_timer timer_;
  std::uint64_t clock_number_ = 0;
  asio::streambuf input_{kRpcLineBytesMax};
  std::string output_;
};

}  // namespace

struct RpcServer::State {
  State(std::string path_in, RpcMethods methods, const RpcLimits& limits)
      : path(std::move(path_in)),
        shared(std::move(methods), limits),
        acceptor(shared.context),
        pause(shared.context) {}

  Result<void> Open() {
    boost::system::error_code error;
    const Local::endpoint endpoint(path);
    acceptor.open(endpoint.protocol(), error);
    // Before the file is there: it is never open to others, whatever the umask.
    if (!error && ::fchmod(acceptor.native_handle(), 0600) != 0) {
      return Error::System(errno, "listen on " + path);
    }
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) return Error::System(error.value(), "listen on " + path);
    return Ok();
  }

  void AcceptNext() {
    acceptor.async_accept([this](boost::system::error_code error, Local::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) {
        // Too many: the socket is closed here.
        if (shared.session_count < shared.limits.connection_count_max) {
          std::make_shared<Session>(std::move(socket), shared)->ReadNext();
        }
        AcceptNext();
        return;
      }
      // No descriptor is free: whoever waits stays in the backlog, so do not spin on it.
      pause.expires_after(kAcceptPause);
      pause.async_wait([this](boost::system::error_code stopped) {
        if (!stopped) AcceptNext();
      });
    });
  }

  std::string path;
  Shared shared;
  Local::acceptor acceptor;
  asio::steady_timer pause;
  std::thread thread;
};

RpcServer::RpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

RpcServer::~RpcServer() {
  state_->shared.context.stop();
  state_->thread.join();
  ::unlink(state_->path.c_str());
}

Result<std::unique_ptr<RpcServer>> RpcServer::Listen(const std::string& socket_path,
                                                     RpcMethods methods, RpcLimits limits) {
  FILER_TRY(SocketAddressOf(socket_path));
  const auto other = RpcClient::Connect(socket_path);
  if (other.has_value() || other.error() == Errc::kTimedOut) {
    return Error(Errc::kBusy, socket_path + ": another process answers on this socket");
  }
  ::unlink(socket_path.c_str());
  auto state = std::make_unique<State>(socket_path, std::move(methods), limits);
  FILER_TRY(state->Open());
  state->AcceptNext();
  state->thread = std::thread([raw = state.get()] { raw->shared.context.run(); });
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(state)));
}

}  // namespace filer
