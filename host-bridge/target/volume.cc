#include "host-bridge/target/volume.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace filer::bridge {
namespace {

Result<UniqueFd> ListenAt(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Error(Errc::kNameTooLong,
                 fmt::format("{}: socket paths have 1 to {} bytes; choose a shorter folder", path,
                             sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);

  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      return Error(Errc::kExists, fmt::format("{}: exists and is no socket; move it away", path));
    }
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const bool is_alive = ::connect(probe.get(), generic, sizeof(address)) == 0 || errno == EAGAIN;
    if (is_alive) {
      return Error(Errc::kBusy, fmt::format("{}: another process listens on this socket", path));
    }
    ::unlink(path.c_str());  // left by a process that was killed
  }
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.is_open()) return Error::System(errno, "socket");
  const mode_t old_mask = ::umask(0177);
  const int failed = ::bind(listener.get(), generic, sizeof(address));
  const int error = errno;
  ::umask(old_mask);
  if (failed != 0) return Error::System(error, fmt::format("{}: cannot make the socket", path));
  if (::listen(listener.get(), 16) != 0) return Error::System(errno, "listen on " + path);
  return listener;
}

}  // namespace

Result<std::unique_ptr<Volume>> Volume::Create(const VolumeOptions& options,
                                               std::unique_ptr<Backend> backend) {
  UniqueFd listener = FILER_TRY(ListenAt(options.socket_path));
  auto closer = FILER_TRY(Closer::Create());
  return std::unique_ptr<Volume>(
      new Volume(options, std::move(backend), std::move(listener), std::move(closer)));
}

Volume::~Volume() {
  ::unlink(options_.socket_path.c_str());
  closer_->Give(std::move(listener_));  // clients in its backlog may have sent descriptors
}

VolumeCounters Volume::counters() const {
  VolumeCounters sum;
  for (const VolumeCounters& counters : counters_) sum.AddAll(counters);
  return sum;
}

Result<void> Volume::Join(WaitSet& waits, Desk& desk, std::uint32_t index,
                          std::uint32_t poller_count) {
  waits_ = &waits;
  desk_ = &desk;
  counters_ = std::vector<VolumeCounters>(poller_count);
  index_ = index;
  FILER_TRY(waits.Add(closer_->idle_fd(), {WaitKind::kClosed, index, 0}));
  return ListenAgain();
}

Result<void> Volume::ListenAgain() {
  if (is_listening_) return Ok();
  FILER_TRY(waits_->Add(listener_.get(), {WaitKind::kListener, index_, 0}));
  is_listening_ = true;
  return Ok();
}

void Volume::Accept() {
  if (session_ != nullptr) return;
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.is_open()) return;  // it left again
  const auto added = waits_->Add(socket.get(), {WaitKind::kSession, index_, 0});
  if (!added.has_value()) {
    FILER_LOG_ERROR("volume {}: {}", options_.name, added.assume_error().message());
    return closer_->Give(std::move(socket));
  }
  waits_->Remove(listener_.get());
  is_listening_ = false;
  SessionOptions session_options{options_.name, index_, options_.queue_count_max, &limiter_, desk_};
  session_ = std::make_unique<Session>(std::move(socket), session_options, *backend_,
                                       CountersOf(desk_->poller_index()), *waits_, *closer_, log_,
                                       registrations_);
  is_connected_.store(true, std::memory_order_relaxed);
  log_.Info("client connected");
}

bool Volume::Visit() {
  if (session_ == nullptr) return false;
  // Whose queues are away is resized when they are back, which ends in a visit.
  if (is_resized_.load(std::memory_order_relaxed) && session_->CallHome()) {
    is_resized_.exchange(false, std::memory_order_acquire);  // pairs with Remeasure
    session_->OnResized();
  }
  if (limiter_.is_limited()) session_->CallHome();  // what limits a volume is one poller's
  session_->CheckMemory();
  const bool did_work = session_->VisitSocket();
  if (session_->IsFinished()) {
    DropFinished();
    return true;
  }
  return did_work;
}

void Volume::DropFinished() {
  waits_->Remove(session_->socket());
  session_->Leave();
  closer_->Give(std::move(session_));
  is_connected_.store(false, std::memory_order_relaxed);
}

void Volume::OnClosed() {
  closer_->DrainIdle();
  if (session_ != nullptr || closer_->backlog() > 0) return;  // of a session that goes on, too
  const auto added = ListenAgain();
  if (!added.has_value()) {
    FILER_LOG_ERROR("volume {}: {}", options_.name, added.assume_error().message());
  }
}

Result<std::uint64_t> Volume::Remeasure() {
  FILER_TRY(backend_->Remeasure());
  is_resized_.store(true, std::memory_order_release);  // pairs with Visit: after the size
  return backend_->Info().size_bytes;
}

Result<void> Volume::Flush() {
  if (backend_->Info().is_read_only) return Ok();
  auto queue = FILER_TRY(backend_->OpenQueue(1));
  BackendRequest flush{};
  flush.operation = BackendOperation::kFlush;
  if (!queue->Queue(flush)) return Errc::kIo;
  BackendCompletion completion{};
  do {
    queue->Kick();
    ::usleep(100);
  } while (queue->Poll({&completion, 1}) == 0);
  if (!completion.is_ok) return Error(Errc::kIo, options_.name + ": flush failed");
  return Ok();
}

}  // namespace filer::bridge
