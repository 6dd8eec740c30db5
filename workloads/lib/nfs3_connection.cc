// NFSv3 by its procedures (RFC 1813): one call per step, with the handle of the folder that an
// earlier call gave. libnfs's POSIX-like calls would walk every path from the root, a LOOKUP for
// each component of each call: for a file five folders deep 25 calls where this needs three.
#include <fmt/core.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <type_traits>

// libnfs's headers need those above, and this order.
// clang-format off
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
// clang-format on

#include "base/clock.h"
#include "workloads/lib/nfs_connection.h"

namespace filer::workloads {
namespace {

using Handle = std::string;  // opaque bytes

constexpr int kPollMs = 100;  // libnfs looks after its own timers when it is called this often

// One TCP connection to one RPC program; one call at a time.
class RpcClient {
 public:
  static Result<std::unique_ptr<RpcClient>> Connect(const std::string& host, int port) {
    rpc_context* context = rpc_init_context();
    if (context == nullptr) return Errc::kNoMemory;
    std::unique_ptr<RpcClient> client(new RpcClient(context));
    rpc_set_uid(context, 0);
    rpc_set_gid(context, 0);
    const auto send = [&](rpc_context* to, rpc_cb callback, void* pending) {
      return rpc_connect_async(to, host.c_str(), port, callback, pending);
    };
    auto connected = client->Run(fmt::format("connect to {}:{}", host, port), send);
    if (!connected) {
      return Error(Errc::kNotRunning, fmt::format("{}:{}: no NFS server answers there ({})", host,
                                                  port, connected.error().message()));
    }
    return client;
  }

  ~RpcClient() { rpc_destroy_context(context_); }
  RpcClient(const RpcClient&) = delete;
  RpcClient& operator=(const RpcClient&) = delete;

  // Sends one call and waits for its answer. `take(const Reply&)` is called while libnfs holds the
  // decoded answer and returns what the caller makes of it.
  template <typename Reply, typename Args, typename Take>
  Result<void> Call(int (*send)(rpc_context*, rpc_cb, Args*, void*),
                    std::type_identity_t<Args>& args, const std::string& what, const Take& take) {
    Result<void> outcome = Ok();
    take_ = [&](void* data) { outcome = take(*static_cast<const Reply*>(data)); };
    const auto send_args = [&](rpc_context* to, rpc_cb callback, void* pending) {
      return send(to, callback, &args, pending);
    };
    FILER_TRY(Run(what, send_args));
    return outcome;
  }

 private:
  explicit RpcClient(rpc_context* context) : context_(context) {}

  static void OnReply(rpc_context*, int status, void* data, void* client) {
    static_cast<RpcClient*>(client)->Take(status, data);
  }
  void Take(int status, void* data) {
    is_done_ = true;
    status_ = status;
    if (status == RPC_STATUS_SUCCESS && take_) take_(data);
  }

  template <typename Send>
  Result<void> Run(const std::string& what, const Send& send) {
    if (is_broken_) return Broken(what);
    is_done_ = false;
    auto outcome = send(context_, &RpcClient::OnReply, this) == 0 ? Wait(what) : Broken(what);
    take_ = nullptr;  // it refers to the caller's stack
    return outcome;
  }

  // After an error nothing of this call can come any more: the connection is closed.
  Result<void> Wait(const std::string& what) {
    const std::int64_t deadline = SystemClock().MonotonicNs() + kNfsTimeoutMs * 1'000'000LL;
    while (!is_done_) {
      pollfd poll_fd = {.fd = rpc_get_fd(context_),
                        .events = static_cast<short>(rpc_which_events(context_)),
                        .revents = 0};
      const bool is_failed = ::poll(&poll_fd, 1, kPollMs) < 0 && errno != EINTR;
      if (is_failed || rpc_service(context_, poll_fd.revents) < 0) return Broken(what);
      if (!is_done_ && SystemClock().MonotonicNs() > deadline) {
        Close();
        return Error(Errc::kTimedOut,
                     fmt::format("{}: no answer for {} s", what, kNfsTimeoutMs / 1000));
      }
    }
    if (status_ != RPC_STATUS_SUCCESS) return Broken(what);
    return Ok();
  }

  void Close() {
    if (!is_broken_) rpc_disconnect(context_, "given up");
    is_broken_ = true;
  }

  Error Broken(const std::string& what) {
    const char* text = rpc_get_error(context_);
    const std::string reason = text != nullptr && *text != '\0' ? text : "the connection is closed";
    Close();
    return Error(Errc::kIo, what + ": " + reason);
  }

  rpc_context* context_;
  std::function<void(void*)> take_;
  bool is_done_ = false;
  int status_ = 0;
  bool is_broken_ = false;
};

nfs_fh3 View(const Handle& handle) {
  nfs_fh3 view{};
  view.data.data_len = static_cast<u_int>(handle.size());
  view.data.data_val = const_cast<char*>(handle.data());  // libnfs only reads it
  return view;
}

Handle Copied(const nfs_fh3& handle) { return {handle.data.data_val, handle.data.data_len}; }

// "" or a name, with the C text that libnfs wants.
char* Text(const std::string& text) { return const_cast<char*>(text.c_str()); }

Result<void> Checked(nfsstat3 status, const std::string& what) {
  if (status == NFS3_OK) return Ok();
  return Error(NfsErrorCode(-nfsstat3_to_errno(status)), what + ": " + nfsstat3_to_str(status));
}

std::uint32_t TypeBits(ftype3 type) {
  switch (type) {
    case NF3DIR:
      return S_IFDIR;
    case NF3LNK:
      return S_IFLNK;
    case NF3BLK:
      return S_IFBLK;
    case NF3CHR:
      return S_IFCHR;
    case NF3SOCK:
      return S_IFSOCK;
    case NF3FIFO:
      return S_IFIFO;
    case NF3REG:
      break;
  }
  return S_IFREG;
}

NfsAttributes FromWire(const fattr3& wire) {
  NfsAttributes attributes;
  attributes.type = TypeBits(wire.type);
  attributes.mode = wire.mode & 07777;
  attributes.links = wire.nlink;
  attributes.inode = wire.fileid;
  attributes.size_bytes = wire.size;
  attributes.mtime_us = static_cast<std::int64_t>(wire.mtime.seconds) * 1'000'000 +
                        static_cast<std::int64_t>(wire.mtime.nseconds / 1000);
  return attributes;
}

nfstime3 ToWire(std::int64_t microseconds) {
  nfstime3 time{};
  time.seconds = static_cast<u_int>(microseconds / 1'000'000);
  time.nseconds = static_cast<u_int>(microseconds % 1'000'000 * 1000);
  return time;
}

sattr3 WithMode(std::optional<std::uint32_t> mode) {
  sattr3 wire{};
  wire.mode.set_it = mode.has_value() ? 1 : 0;
  wire.mode.set_mode3_u.mode = mode.value_or(0);
  return wire;
}

class Nfs3Connection final : public NfsConnection {
 public:
  Nfs3Connection(std::unique_ptr<RpcClient> rpc, Handle root) : rpc_(std::move(rpc)) {
    folders_[""] = std::move(root);
  }

  Result<NfsAttributes> Examine(const std::string& path) override {
    return FILER_TRY(Lookup(path)).attributes;
  }

  Result<void> MakeFolder(const std::string& path, std::uint32_t mode) override {
    const std::string what = "make folder " + path;
    const Place place = FILER_TRY(PlaceOf(path));
    MKDIR3args args{};
    args.where = place.View();
    args.attributes = WithMode(mode);
    return rpc_->Call<MKDIR3res>(rpc_nfs3_mkdir_async, args, what, [&](const MKDIR3res& reply) {
      return Checked(reply.status, what);
    });
  }

  Result<void> MakeSymlink(const std::string& target, const std::string& path) override {
    const std::string what = "make symbolic link " + path;
    const Place place = FILER_TRY(PlaceOf(path));
    SYMLINK3args args{};
    args.where = place.View();
    args.symlink.symlink_data = Text(target);
    return rpc_->Call<SYMLINK3res>(
        rpc_nfs3_symlink_async, args, what,
        [&](const SYMLINK3res& reply) { return Checked(reply.status, what); });
  }

  Result<std::string> ReadSymlink(const std::string& path) override {
    const std::string what = "read link " + path;
    const Handle handle = FILER_TRY(HandleOf(path));
    READLINK3args args{};
    args.symlink = View(handle);
    std::string text;
    FILER_TRY(rpc_->Call<READLINK3res>(rpc_nfs3_readlink_async, args, what,
                                       [&](const READLINK3res& reply) -> Result<void> {
                                         FILER_TRY(Checked(reply.status, what));
                                         text = reply.READLINK3res_u.resok.data;
                                         return Ok();
                                       }));
    return text;
  }

  Result<void> MakeLink(const std::string& existing, const std::string& path) override {
    const std::string what = "make link " + path;
    const Handle handle = FILER_TRY(HandleOf(existing));
    const Place place = FILER_TRY(PlaceOf(path));
    LINK3args args{};
    args.file = View(handle);
    args.link = place.View();
    return rpc_->Call<LINK3res>(rpc_nfs3_link_async, args, what,
                                [&](const LINK3res& reply) { return Checked(reply.status, what); });
  }

  Result<void> SetModeAndTime(const std::string& path, std::optional<std::uint32_t> mode,
                              std::int64_t mtime_us) override {
    const std::string what = "set mode and time of " + path;
    const Handle handle = FILER_TRY(HandleOf(path));
    SETATTR3args args{};
    args.object = View(handle);
    args.new_attributes = WithMode(mode);
    args.new_attributes.atime.set_it = SET_TO_CLIENT_TIME;
    args.new_attributes.atime.set_atime_u.atime = ToWire(mtime_us);
    args.new_attributes.mtime.set_it = SET_TO_CLIENT_TIME;
    args.new_attributes.mtime.set_mtime_u.mtime = ToWire(mtime_us);
    return rpc_->Call<SETATTR3res>(
        rpc_nfs3_setattr_async, args, what,
        [&](const SETATTR3res& reply) { return Checked(reply.status, what); });
  }

  Result<std::vector<std::string>> List(const std::string& path) override;
  Result<void> WriteFile(const std::string& path, std::uint32_t mode,
                         std::span<const std::byte> content) override;
  Result<std::vector<std::byte>> ReadFile(const std::string& path,
                                          std::uint64_t size_bytes) override;

 private:
  struct Found {
    Handle handle;
    NfsAttributes attributes;
  };
  // A name in a folder, as procedures want it. View() is valid as long as this.
  struct Place {
    Handle folder;
    std::string name;
    diropargs3 View() const {
      diropargs3 view{};
      view.dir = workloads::View(folder);
      view.name = Text(name);
      return view;
    }
  };

  Result<Place> PlaceOf(const std::string& path);
  Result<Found> Lookup(const std::string& path);
  Result<Handle> HandleOf(const std::string& path);
  Result<Handle> Create(const std::string& path, std::uint32_t mode);
  Result<void> Write(const Handle& handle, const std::string& what, std::uint64_t at,
                     std::span<const std::byte> content, stable_how stable, std::uint64_t& written,
                     std::string& verifier);
  Result<std::string> Commit(const Handle& handle, const std::string& what);

  std::unique_ptr<RpcClient> rpc_;
  std::map<std::string, Handle> folders_;  // by path, "" is the share
  std::string last_path_;                  // what was looked up or made last, and its handle
  Handle last_handle_;
};

// A folder's path without slashes at its end, "" for the share.
std::string Trimmed(std::string path) {
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path;
}

Result<Nfs3Connection::Place> Nfs3Connection::PlaceOf(const std::string& path) {
  const std::string trimmed = Trimmed(path);
  const std::size_t slash = trimmed.rfind('/');
  if (slash == std::string::npos) return Error(Errc::kInvalidArgument, path + ": no name");
  const std::string folder = Trimmed(trimmed.substr(0, slash));
  auto known = folders_.find(folder);
  if (known == folders_.end()) {
    const Found found = FILER_TRY(Lookup(folder));
    if (found.attributes.type != S_IFDIR) {
      return Error(Errc::kNotDirectory, folder + ": not a folder");
    }
    known = folders_.emplace(folder, found.handle).first;
  }
  return Place{.folder = known->second, .name = trimmed.substr(slash + 1)};
}

Result<Nfs3Connection::Found> Nfs3Connection::Lookup(const std::string& path) {
  const std::string what = "examine " + path;
  const Place place = FILER_TRY(PlaceOf(path));
  LOOKUP3args args{};
  args.what = place.View();
  Found found;
  bool has_attributes = false;
  FILER_TRY(rpc_->Call<LOOKUP3res>(
      rpc_nfs3_lookup_async, args, what, [&](const LOOKUP3res& reply) -> Result<void> {
        FILER_TRY(Checked(reply.status, what));
        const LOOKUP3resok& ok = reply.LOOKUP3res_u.resok;
        found.handle = Copied(ok.object);
        has_attributes = ok.obj_attributes.attributes_follow != 0;
        if (has_attributes) {
          found.attributes = FromWire(ok.obj_attributes.post_op_attr_u.attributes);
        }
        return Ok();
      }));
  last_path_ = path;
  last_handle_ = found.handle;
  if (has_attributes) return found;
  GETATTR3args again{};
  again.object = View(found.handle);
  FILER_TRY(rpc_->Call<GETATTR3res>(
      rpc_nfs3_getattr_async, again, what, [&](const GETATTR3res& reply) -> Result<void> {
        FILER_TRY(Checked(reply.status, what));
        found.attributes = FromWire(reply.GETATTR3res_u.resok.obj_attributes);
        return Ok();
      }));
  return found;
}

Result<Handle> Nfs3Connection::HandleOf(const std::string& path) {
  if (path == last_path_) return last_handle_;
  const auto known = folders_.find(Trimmed(path));
  if (known != folders_.end()) return known->second;
  return FILER_TRY(Lookup(path)).handle;
}

Result<std::vector<std::string>> Nfs3Connection::List(const std::string& path) {
  constexpr count3 kListBytes = 64 << 10;
  const std::string what = "list " + path;
  const Handle handle = FILER_TRY(HandleOf(path));
  std::vector<std::string> names;
  READDIR3args args{};
  args.dir = View(handle);
  args.count = kListBytes;
  for (bool is_end = false; !is_end;) {
    const cookie3 before = args.cookie;
    FILER_TRY(rpc_->Call<READDIR3res>(
        rpc_nfs3_readdir_async, args, what, [&](const READDIR3res& reply) -> Result<void> {
          FILER_TRY(Checked(reply.status, what));
          const READDIR3resok& ok = reply.READDIR3res_u.resok;
          for (const entry3* entry = ok.reply.entries; entry != nullptr; entry = entry->nextentry) {
            const std::string name = entry->name;
            if (name != "." && name != "..") names.push_back(name);
            args.cookie = entry->cookie;
          }
          std::memcpy(args.cookieverf, ok.cookieverf, sizeof(args.cookieverf));
          is_end = ok.reply.eof != 0;
          return Ok();
        }));
    if (!is_end && args.cookie == before) {
      return Error(Errc::kProtocol, what + ": the server sends neither names nor the end");
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<Handle> Nfs3Connection::Create(const std::string& path, std::uint32_t mode) {
  const std::string what = "create " + path;
  const Place place = FILER_TRY(PlaceOf(path));
  CREATE3args args{};
  args.where = place.View();
  args.how.mode = UNCHECKED;
  args.how.createhow3_u.obj_attributes = WithMode(mode);
  args.how.createhow3_u.obj_attributes.size.set_it = 1;  // truncates what is there
  Handle handle;
  FILER_TRY(rpc_->Call<CREATE3res>(rpc_nfs3_create_async, args, what,
                                   [&](const CREATE3res& reply) -> Result<void> {
                                     FILER_TRY(Checked(reply.status, what));
                                     const post_op_fh3& object = reply.CREATE3res_u.resok.obj;
                                     if (object.handle_follows != 0)
                                       handle = Copied(object.post_op_fh3_u.handle);
                                     return Ok();
                                   }));
  if (handle.empty()) return FILER_TRY(Lookup(path)).handle;
  last_path_ = path;
  last_handle_ = handle;
  return handle;
}

Result<void> Nfs3Connection::Write(const Handle& handle, const std::string& what, std::uint64_t at,
                                   std::span<const std::byte> content, stable_how stable,
                                   std::uint64_t& written, std::string& verifier) {
  WRITE3args args{};
  args.file = View(handle);
  args.offset = at;
  args.count = static_cast<count3>(content.size());
  args.stable = stable;
  args.data.data_len = static_cast<u_int>(content.size());
  args.data.data_val = const_cast<char*>(reinterpret_cast<const char*>(content.data()));
  return rpc_->Call<WRITE3res>(
      rpc_nfs3_write_async, args, what, [&](const WRITE3res& reply) -> Result<void> {
        FILER_TRY(Checked(reply.status, what));
        const WRITE3resok& ok = reply.WRITE3res_u.resok;
        if (ok.count == 0 || ok.count > content.size()) {
          return Error(Errc::kProtocol, fmt::format("{}: {} bytes written", what, ok.count));
        }
        if (stable == FILE_SYNC && ok.committed != FILE_SYNC) {
          return Error(Errc::kProtocol, what + ": a stable write was answered as unstable");
        }
        written = ok.count;
        verifier.assign(ok.verf, sizeof(ok.verf));
        return Ok();
      });
}

Result<std::string> Nfs3Connection::Commit(const Handle& handle, const std::string& what) {
  COMMIT3args args{};
  args.file = View(handle);
  std::string verifier;
  FILER_TRY(rpc_->Call<COMMIT3res>(rpc_nfs3_commit_async, args, what,
                                   [&](const COMMIT3res& reply) -> Result<void> {
                                     FILER_TRY(Checked(reply.status, what));
                                     const COMMIT3resok& ok = reply.COMMIT3res_u.resok;
                                     verifier.assign(ok.verf, sizeof(ok.verf));
                                     return Ok();
                                   }));
  return verifier;
}

// As kernels do it: what fits one WRITE is written stable at once; more goes unstable, with one
// COMMIT, and again if the server restarted in between (RFC 1813, 3.3.7 and 3.3.21).
Result<void> Nfs3Connection::WriteFile(const std::string& path, std::uint32_t mode,
                                       std::span<const std::byte> content) {
  const std::string what = "write " + path;
  const Handle handle = FILER_TRY(Create(path, mode));
  if (content.empty()) return Ok();
  const stable_how stable = content.size() <= kNfsTransferBytes ? FILE_SYNC : UNSTABLE;
  constexpr int kAttempts = 3;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string first_verifier;
    bool is_one_server = true;
    for (std::uint64_t at = 0; at < content.size();) {
      const auto piece =
          content.subspan(at, std::min<std::uint64_t>(kNfsTransferBytes, content.size() - at));
      std::uint64_t written = 0;
      std::string verifier;
      FILER_TRY(Write(handle, what, at, piece, stable, written, verifier));
      if (at == 0) first_verifier = verifier;
      is_one_server = is_one_server && verifier == first_verifier;
      at += written;
    }
    if (stable == FILE_SYNC) return Ok();
    const std::string verifier = FILER_TRY(Commit(handle, what));
    if (is_one_server && verifier == first_verifier) return Ok();
  }
  return Error(Errc::kIo, what + ": the server's verifier changes with every attempt");
}

Result<std::vector<std::byte>> Nfs3Connection::ReadFile(const std::string& path,
                                                        std::uint64_t size_bytes) {
  const std::string what = "read " + path;
  const Handle handle = FILER_TRY(HandleOf(path));
  std::vector<std::byte> content(size_bytes);
  std::uint64_t at = 0;
  for (bool is_end = false; at < size_bytes && !is_end;) {
    READ3args args{};
    args.file = View(handle);
    args.offset = at;
    args.count = static_cast<count3>(std::min(kNfsTransferBytes, size_bytes - at));
    FILER_TRY(rpc_->Call<READ3res>(
        rpc_nfs3_read_async, args, what, [&](const READ3res& reply) -> Result<void> {
          FILER_TRY(Checked(reply.status, what));
          const READ3resok& ok = reply.READ3res_u.resok;
          if (ok.data.data_len > args.count || (ok.data.data_len == 0 && ok.eof == 0)) {
            return Error(Errc::kProtocol, fmt::format("{}: {} bytes read", what, ok.data.data_len));
          }
          std::memcpy(content.data() + at, ok.data.data_val, ok.data.data_len);
          at += ok.data.data_len;
          is_end = ok.eof != 0;
          return Ok();
        }));
  }
  content.resize(at);
  return content;
}

// MNT takes a text where every other procedure takes a structure.
int SendMount(rpc_context* context, rpc_cb callback, std::string* share, void* private_data) {
  return rpc_mount3_mnt_async(context, callback, share->data(), private_data);
}

}  // namespace

Result<std::unique_ptr<NfsConnection>> ConnectNfs3(const NfsServer& server) {
  const std::string what = fmt::format("mount {}:{}", server.host, server.share);
  Handle root;
  const auto mount = FILER_TRY(RpcClient::Connect(server.host, server.mount_port));
  std::string share = server.share;
  FILER_TRY(
      mount->Call<mountres3>(SendMount, share, what, [&](const mountres3& reply) -> Result<void> {
        if (reply.fhs_status != MNT3_OK) {
          return Error(Errc::kNotRunning,
                       fmt::format("{}: {}", what, mountstat3_to_str(reply.fhs_status)));
        }
        const fhandle3& handle = reply.mountres3_u.mountinfo.fhandle;
        root.assign(handle.fhandle3_val, handle.fhandle3_len);
        return Ok();
      }));
  auto rpc = FILER_TRY(RpcClient::Connect(server.host, server.nfs_port));
  return std::unique_ptr<NfsConnection>(
      std::make_unique<Nfs3Connection>(std::move(rpc), std::move(root)));
}

}  // namespace filer::workloads
