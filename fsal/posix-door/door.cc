#include "fsal/posix-door/door.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <memory>
#include <shared_mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "fsal/posix-door/fuse_api.h"
#include "fsal/posix-door/mount_point.h"
#include "fsal/posix-door/operations.h"

namespace filer::posix_door {
namespace {

constexpr unsigned kRequestBytesMax = 1 << 20;

void Init(void*, fuse_conn_info* connection) noexcept {
  connection->max_write = kRequestBytesMax;
  connection->max_read = kRequestBytesMax;
  connection->max_readahead = kRequestBytesMax;
  // The kernel clears setuid and setgid bits itself, and truncates with a request of its own (so
  // that its checks apply). Splicing into a pipe costs more than one copy of an engine's buffer.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_ATOMIC_O_TRUNC |
                                             FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                             FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
  // The kernel obeys POSIX lists (access.h), and leaves the umask to who knows what is inherited.
  connection->want |= connection->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
}

fuse_lowlevel_ops AllOperations() {
  fuse_lowlevel_ops operations = {};
  operations.init = Init;
  AddNameOperations(operations);
  AddDirectoryOperations(operations);
  AddFileOperations(operations);
  AddAttributeOperations(operations);
  AddLockOperations(operations);
  return operations;
}

// The volume's name as the mount's source, without what the option parser gives a meaning.
std::string SourceName(const engine::Engine& engine) {
  std::string name = "nearmetal:";
  for (const char c : engine.VolumeName()) {
    const bool is_plain =
        std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
    name += is_plain ? c : '_';
  }
  return name;
}

struct SessionDeleter {
  void operator()(fuse_session* session) const { fuse_session_destroy(session); }
};
using Session = std::unique_ptr<fuse_session, SessionDeleter>;

Result<Session> MakeSession(const std::string& source, bool is_read_only, DoorState& state) {
  const std::string options =
      fmt::format("default_permissions,allow_other,max_read={},fsname={},subtype=nearmetal{}",
                  kRequestBytesMax, source, is_read_only ? ",ro" : "");
  const std::array<const char*, 3> arguments = {"filer", "-o", options.c_str()};
  fuse_args args =
      FUSE_ARGS_INIT(static_cast<int>(arguments.size()), const_cast<char**>(arguments.data()));
  const fuse_lowlevel_ops operations = AllOperations();
  Session session(fuse_session_new(&args, &operations, sizeof(operations), &state));
  fuse_opt_free_args(&args);
  if (session == nullptr) return Error(Errc::kSystem, "libfuse refused the session");
  return session;
}

}  // namespace

struct PosixDoor::State {
  State(engine::Engine& engine, std::string at, PosixDoorOptions with)
      : mount_point(std::move(at)),
        options(std::move(with)),
        door(engine, options.uses_page_cache) {}

  const std::string mount_point;
  const PosixDoorOptions options;
  DoorState door;
  Session session;
  std::thread loop;
  std::atomic<bool> has_ended{false};  // seq_cst: rare
  std::atomic<bool> is_closing{false};
  // A call of the listener may outlive this object.
  struct Listening {
    std::shared_mutex mutex;
    bool is_open = true;
  };
  const std::shared_ptr<Listening> listening = std::make_shared<Listening>();

  void Run() {
    fuse_loop_config* config = fuse_loop_cfg_create();
    fuse_loop_cfg_set_clone_fd(config, 0);
    fuse_loop_cfg_set_max_threads(config, options.threads_max);
    fuse_loop_cfg_set_idle_threads(config, options.threads_max);
    const int result = fuse_session_loop_mt(session.get(), config);
    fuse_loop_cfg_destroy(config);
    has_ended = true;
    if (is_closing) return;
    FILER_LOG_WARN("posix door {}: ended by the kernel (unmounted?), result {}", mount_point,
                   result);
    if (options.on_end) options.on_end();
  }

  void ListenForChanges() {
    door.engine.SetChangeListener(engine::kDoorPosix,
                                  [alive = listening, this](const engine::Engine::Change& change) {
                                    const std::shared_lock lock(alive->mutex);
                                    if (!alive->is_open || !door.Has(change.node)) return;
                                    door.kernel.OnChange(door.Inode(change.node), change.name);
                                  });
    door.kernel.Start(session.get());
  }
  void StopListening() {
    door.kernel.GiveNoMore();
    door.engine.SetChangeListener(engine::kDoorPosix, nullptr);
    {
      const std::unique_lock lock(listening->mutex);
      listening->is_open = false;
    }
    door.kernel.Stop();
  }

  // Lets programs finish. True once the kernel has let go of the mount.
  bool UnmountCleanly() {
    const auto deadline = std::chrono::steady_clock::now() + options.unmount_wait;
    while (!has_ended) {
      const auto unmounted = UnmountPath(mount_point, false);
      if (unmounted.has_value()) return true;
      if (unmounted.error() != Errc::kBusy) {
        // Not mounted any more is as good.
        FILER_LOG_WARN("posix door: {}", unmounted.error().message());
        return has_ended || unmounted.error().os_errno() == EINVAL;
      }
      if (std::chrono::steady_clock::now() >= deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }

  // Programs keep files open. The loop ends with the next request, so it is given one, from a
  // thread, because it may come too late to be answered before the session is closed.
  std::thread EndLoopByForce() {
    FILER_LOG_WARN("posix door {}: files are still open, detaching them", mount_point);
    fuse_session_exit(session.get());
    return std::thread([path = mount_point] {
      struct stat status = {};
      static_cast<void>(stat(path.c_str(), &status));
    });
  }
};

PosixDoor::PosixDoor(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<PosixDoor>> PosixDoor::Mount(engine::Engine& engine,
                                                    const std::string& mount_point,
                                                    const PosixDoorOptions& options) {
  FILER_TRY(PrepareMountPoint(mount_point));
  auto state = std::make_unique<State>(engine, mount_point, options);
  state->session = FILER_TRY(MakeSession(SourceName(engine), options.is_read_only, state->door));
  if (fuse_session_mount(state->session.get(), mount_point.c_str()) != 0) {
    return Error(Errc::kSystem,
                 fmt::format("FUSE mount on {} failed: are /dev/fuse and the right to mount there "
                             "(root)?",
                             mount_point));
  }
  state->loop = std::thread([raw = state.get()] { raw->Run(); });
  std::unique_ptr<PosixDoor> door(new PosixDoor(std::move(state)));
  door->state_->ListenForChanges();
  return door;
}

PosixDoor::~PosixDoor() {
  state_->is_closing = true;
  state_->StopListening();
  // Programs that wait for locks keep their files open.
  state_->door.waiters.Stop();
  std::thread last_request;
  if (!state_->UnmountCleanly()) last_request = state_->EndLoopByForce();
  state_->loop.join();
  // Closes the connection (requests that are still unanswered fail with ENOTCONN) and, only if the
  // mount is still there, detaches it.
  fuse_session_unmount(state_->session.get());
  if (last_request.joinable()) last_request.join();
}

}  // namespace filer::posix_door
