// engine.h: the file system, as the doors (NFS, POSIX) see it. Implementation: fsal/engine/fs.
//
// - Every operation that changes something and returns success is durable on return, except Write with Stability::kUnstable (durable after
//   Commit) and the lock table (memory only).
// - Names are any bytes but '/' and NUL, 1 to 255 bytes; "." and ".." are never stored and are refused as names (kInvalidName);
//   the doors resolve them. Symbolic links are never followed here.
// - Whether a caller may read, write or search is asked by the door (Access, by mode or list): it knows squashing, and which open a
//   request belongs to. The engine uses the Caller for ownership of what it makes, sticky directories, and who may change what
//   (Caller::is_trusted switches these off).
// Threads: any thread, entered and run to the end by the caller. Blocking calls poll the device while they wait.
// Errors: Errc; kStaleHandle whenever the node does not exist (any more).
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fsal/engine/acl.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/device/buffer_pool.h"
#include "fsal/engine/statistics.h"

namespace filer::engine {

inline constexpr std::size_t kNameBytesMax = 255;
inline constexpr std::size_t kSymlinkBytesMax = 4095;
inline constexpr std::size_t kXattrNameBytesMax = 255;
inline constexpr std::size_t kXattrValueBytesMax = 64 * 1024;
inline constexpr std::uint32_t kLinksMax = 65000;
inline constexpr std::uint64_t kFileBytesMax = 1ULL << 44;  // 16 TiB
inline constexpr std::size_t kHandleBytes = 48;             // <= 59, so that it fits NFSv3 with Ganesha's own header
inline constexpr std::uint64_t kRootInode = 2;
inline constexpr std::uint32_t kRootFileset = 1;

// Which node. Filesets are units of export with an fsid of their own; snapshot 0 is the live tree.
struct NodeId {
  std::uint32_t fileset = kRootFileset;
  std::uint32_t snapshot = 0;
  std::uint64_t inode = 0;
  friend auto operator<=>(const NodeId&, const NodeId&) = default;
};

enum class NodeKind : std::uint8_t {
  kFile = 1, kDirectory, kSymlink, kBlockDevice, kCharDevice, kFifo, kSocket
};

struct Attributes {
  NodeId id;
  std::uint64_t generation = 0;   // of the inode number; inode numbers are never reused, so it is informative
  NodeKind kind = NodeKind::kFile;
  std::uint32_t mode = 0;         // permission bits, 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t links = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t used_bytes = 0;   // allocated or reserved
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::int64_t atime_ns = 0;      // since the epoch
  std::int64_t mtime_ns = 0;
  std::int64_t ctime_ns = 0;
  std::int64_t btime_ns = 0;
  std::uint64_t change = 0;       // NFSv4 change attribute (RFC 8881, 5.8.1.4): never repeats for other content, also over a crash
  std::uint64_t fsid = 0;         // of the fileset
  std::uint32_t project = 0;      // whose quota it counts for; 0: none
  bool inherits_project = false;  // directories: what is made inside has its project
  AclKind acl = AclKind::kNone;   // what GetAcl would answer
};

struct Caller {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::span<const std::uint32_t> groups;  // supplementary
  bool is_trusted = false;                // the door has decided; no ownership checks here
};

// Only what is set is changed. Times: now if the *_now flag is set.
struct AttributeChange {
  std::optional<std::uint32_t> mode, uid, gid;
  std::optional<std::uint64_t> size_bytes;  // truncate or extend (a hole)
  std::optional<std::int64_t> atime_ns, mtime_ns, btime_ns;
  bool atime_now = false, mtime_now = false;
  // Replaces the list, of whichever kind; kNone: there is none any more. After the mode, which it changes (RFC 7530, 6.4.1.3).
  std::optional<Acl> acl;
};

struct CreateOptions {
  NodeKind kind = NodeKind::kFile;
  AttributeChange attributes;              // mode default: 0, or the list's; uid and gid default: the caller's (setgid directories: the directory's)
  std::uint32_t umask = 0;                 // taken from the mode where the directory passes on no list
  std::string_view symlink_target;         // kSymlink only
  std::uint32_t device_major = 0, device_minor = 0;
  // kFile: return an existing file instead of kExists when its verifier is the same (NFS EXCLUSIVE create, RFC 1813 3.3.8).
  std::optional<std::array<std::uint8_t, 8>> exclusive_verifier;
};

// What an operation on a directory changed (NFSv4 change_info4, NFSv3 wcc_data).
struct Created {
  Attributes node;
  Attributes directory;   // after
  bool existed = false;   // exclusive create met its own file
};
struct Removed {
  NodeId node;
  bool last_link = false;
};

struct DirectoryEntry {
  std::string name;
  NodeId id;
  std::uint64_t cookie = 0;   // > 2; stable for the life of the entry, never reused in this directory
  NodeKind kind = NodeKind::kFile;
};

enum RenameFlags : std::uint32_t { kRenameReplace = 0, kRenameNoReplace = 1, kRenameExchange = 2 };
enum class RemoveKind { kAny, kNotDirectory, kDirectory };

struct FileSystemStatus {
  std::uint64_t total_bytes = 0, free_bytes = 0, available_bytes = 0;
  std::uint64_t total_nodes = 0, free_nodes = 0;
  std::uint64_t fsid = 0;
};

// Data of a read, in place in pool buffers (or in one shared block of zeroes for holes). Valid while `holds` live; release it as soon as
// the bytes were consumed.
struct ReadResult {
  std::vector<iovec> segments;
  std::vector<BufferRef> holds;
  std::uint64_t length_bytes = 0;
  bool is_end_of_file = false;
  Attributes attributes;
};

enum class Stability : std::uint8_t { kUnstable, kDataSync, kFileSync };  // RFC 1813, stable_how
using WriteVerifier = std::array<std::uint8_t, 8>;  // changes whenever unstable data may have been lost

struct WriteResult {
  std::uint64_t length_bytes = 0;
  Stability committed = Stability::kUnstable;  // never less than asked for
  WriteVerifier verifier{};
  Attributes attributes;
};

enum class LockKind : std::uint8_t { kRead, kWrite };
// Byte-range lock. The owner is any bytes that the door makes unique (door prefix + client + owner).
struct LockRange {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;  // 0: to the end of the file, however far
  LockKind kind = LockKind::kRead;
};
struct LockConflict {
  LockRange range;
  std::string owner;
};

// Quotas count bytes of allocated blocks and inodes by user, group and project (0: none, not counted). Usage is kept for every id,
// with or without limits; of an id with limits it includes what unstable writes have been promised.
enum class QuotaKind : std::uint8_t { kUser, kGroup, kProject };
inline constexpr std::size_t kQuotaKinds = 3;
struct QuotaLimits {  // 0: none. Soft ones may be exceeded until the grace time is over
  std::uint64_t bytes_soft = 0, bytes_hard = 0, inodes_soft = 0, inodes_hard = 0;
  friend bool operator==(const QuotaLimits&, const QuotaLimits&) = default;
};
struct Quota {
  QuotaKind kind = QuotaKind::kUser;
  std::uint32_t id = 0;
  std::uint64_t used_bytes = 0, used_inodes = 0;
  QuotaLimits limits;
  // When the soft limit, exceeded now, becomes a hard one (ns since the epoch); 0: it is not exceeded.
  std::int64_t bytes_deadline_ns = 0, inodes_deadline_ns = 0;
};
struct QuotaGrace {
  std::uint64_t bytes_seconds = 7 * 86400, inodes_seconds = 7 * 86400;
};
// Are limits a reason to refuse? Not to root; what it does is counted all the same.
enum class QuotaRule : std::uint8_t { kEnforce, kExempt };
inline QuotaRule QuotaRuleOf(const Caller& caller) {
  return caller.uid == 0 ? QuotaRule::kExempt : QuotaRule::kEnforce;
}
// How far an assignment of a project to a tree has come. Starts empty; the engine moves it.
struct ProjectWalk {
  struct Level {
    NodeId directory;
    std::uint64_t cookie = 0;  // the last entry that is done
  };
  std::vector<Level> open;  // from the root of the tree to where it goes on
  bool has_begun = false, is_done = false;
  std::uint64_t visited = 0;
};

struct MountOptions {
  bool read_only = false;
  std::uint64_t cache_bytes = 256ULL << 20;       // data cache, at most half of the device's pool
  std::uint64_t dirty_bytes_max = 64ULL << 20;    // unstable data before writers are made to help
  std::uint32_t checkpoint_interval_ms = 5000;
};

struct FormatOptions {
  std::string volume_name;
  bool overwrite = false;
  std::uint64_t random_seed = 0;  // 0: from the machine
  const Clock* clock = nullptr;   // none: the machine's
};

struct EngineCounters {
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, commits = 0, metadata_changes = 0;
  std::uint64_t copied_read_bytes = 0;    // payload bytes copied between device buffer and what Read hands out
  std::uint64_t copied_write_bytes = 0;   // payload bytes copied between the caller's iovec and device buffers
  std::uint64_t cache_hit_blocks = 0, cache_miss_blocks = 0;
  std::uint64_t dirty_bytes = 0, cached_bytes = 0;
  std::uint64_t log_groups = 0, log_transactions = 0, checkpoints = 0, recovered_groups = 0;
  std::uint64_t free_blocks = 0, inodes = 0;
  std::uint64_t quota_limited_ids = 0, quota_refusals = 0;  // ids that have limits; operations that they refused
};

// One finding of check: what, where, which file.
struct CheckFinding {
  std::string what;
  std::string where;   // key, block or inode
  std::string path;    // of the file concerned, or empty
};
struct CheckReport {
  std::vector<CheckFinding> findings;   // empty: the volume is sound
  std::uint64_t inodes = 0, directories = 0, used_blocks = 0, bytes_verified = 0;
};

struct RepairOptions {
  bool is_dry_run = false;  // says what it would do
  bool verify_data = true;  // reads all data, to list the files of which some is damaged
};
struct RepairReport {
  std::vector<CheckFinding> mended;   // or would be
  std::vector<CheckFinding> damaged;  // files that lost something, or may have; nothing can be done for that
  std::uint64_t inodes = 0, used_blocks = 0, bytes_verified = 0;
  bool was_written = false;  // the volume was changed
};

// Scrub: reads all metadata and all data again and verifies them, while the volume is served.
struct ScrubOptions {
  std::uint64_t bytes_per_second = 64ULL << 20;  // at most; 0: no bound
  bool yields_to_clients = true;                 // works a fifth of the time while they ask for something
  bool from_start = false;                       // not from where the last one was stopped
};
struct ScrubStatus {
  bool is_running = false;
  std::uint64_t passes = 0;               // that came to their end, in the life of the volume
  std::uint64_t nodes_verified = 0, bytes_verified = 0;  // of this pass (or the last one); bytes of data
  std::uint64_t nodes_total = 0, bytes_total = 0;        // about what there is
  std::int64_t started_ns = 0, finished_ns = 0;          // since the epoch; 0: not yet
  std::vector<CheckFinding> findings;     // of this pass and, until it ends, of the one before
  bool has_more_findings = false;         // than are kept
  std::string failure;                    // why it stopped before its end, or empty
};
class Filesets;

class Engine {
 public:
  virtual ~Engine() = default;  // without Unmount: as if killed

  // Makes an empty file system with a root directory (0755, uid 0). Errors: kTooSmall, kExists, kReadOnly, the device's.
  static Result<void> Format(BlockDevice& device, const FormatOptions& options);
  // Recovers and serves. Errors: kNotOurs, kNewerVersion, kTooSmall, kCorrupt, the device's. Device and clock must outlive it.
  static Result<std::unique_ptr<Engine>> Mount(BlockDevice& device, const Clock& clock,
                                               const MountOptions& options);
  // Offline, read-only walk over everything; with `verify_data` also reads all data. Errors: as Mount; damage is reported, not returned.
  static Result<CheckReport> Check(BlockDevice& device, bool verify_data);
  // Offline: rebuilds what follows from other things (indexes, counts, links, the map of used space), brings what nothing leads to under
  // /lost+found, and builds the tree anew around damaged nodes. The volume becomes another one in one step, at the end, or stays as it
  // is. Data that does not match its checksum stays, so that reading it fails. Errors: as Mount; kNoSpace (no room for the new nodes
  // beside the old ones); kCorrupt (what is damaged would be made worse).
  static Result<RepairReport> Repair(BlockDevice& device, const RepairOptions& options);

  // Commits everything, checkpoint, clean flag. No other call may be running or follow.
  virtual Result<void> Unmount() = 0;

  virtual NodeId Root() const = 0;
  virtual std::string VolumeName() const = 0;
  virtual std::array<std::uint8_t, 16> VolumeUuid() const = 0;
  // Filesets and snapshots (filesets.h). Lives as long as the engine.
  virtual Filesets& AllFilesets() = 0;

  // --- names
  virtual Result<Attributes> Lookup(NodeId directory, std::string_view name) = 0;
  virtual Result<Attributes> LookupParent(NodeId directory) = 0;  // the root's parent is the root
  virtual Result<Created> Create(const Caller& caller, NodeId directory, std::string_view name,
                                 const CreateOptions& options) = 0;
  virtual Result<Attributes> Link(const Caller& caller, NodeId node, NodeId directory,
                                  std::string_view name) = 0;
  // kNotEmpty, kIsDirectory / kNotDirectory by RemoveKind. A node that is held (Hold) lives on until Release.
  virtual Result<Removed> Remove(const Caller& caller, NodeId directory, std::string_view name,
                                 RemoveKind kind) = 0;
  virtual Result<void> Rename(const Caller& caller, NodeId from_directory, std::string_view from_name,
                              NodeId to_directory, std::string_view to_name, std::uint32_t flags) = 0;
  virtual Result<std::string> ReadLink(NodeId node) = 0;
  // Entries with cookie > `after` in cookie order until `visit` returns false. "." and ".." are not among them. Returns true when
  // the end was reached. `visit` runs without locks of the engine and may call it.
  virtual Result<bool> ReadDirectory(
      NodeId directory, std::uint64_t after,
      const std::function<bool(const DirectoryEntry& entry)>& visit) = 0;
  // A path from the root (for messages and reports), e.g. "/a/b"; any one of several links.
  virtual Result<std::string> PathOf(NodeId node) = 0;

  // --- attributes
  virtual Result<Attributes> GetAttributes(NodeId node) = 0;
  virtual Result<Attributes> SetAttributes(const Caller& caller, NodeId node,
                                           const AttributeChange& change) = 0;
  // What a change of content takes from a file, for a door to call before Write: setuid, and setgid where the group may execute,
  // unless the caller is root; file capabilities (security.capability) from anybody. Most often there is nothing to take: no commit.
  virtual Result<void> DropPrivileges(const Caller& caller, NodeId node) = 0;
  // `below`: a directory whose project has limits gets those as the size of all there is (statfs of XFS).
  virtual Result<FileSystemStatus> GetStatus(NodeId below = {}) = 0;
  // The list as it was set, or as chmod or inheritance made it; kind kNone: the mode decides. One that says what the mode says is not kept.
  virtual Result<Acl> GetAcl(NodeId node) = 0;
  // May the caller do all of this (AceMask), by list or mode? Always, if he is trusted. Errors: kAccessDenied.
  virtual Result<void> Access(const Caller& caller, NodeId node, std::uint32_t mask) = 0;
  // May he take this name of this node out of this directory? Sticky bits apart: Remove and Rename look at them. Errors: kAccessDenied.
  virtual Result<void> AccessToRemove(const Caller& caller, NodeId directory, NodeId node) = 0;
  // Extended attributes; the name carries its namespace ("user.x", "security.NTACL"). "system.posix_acl_access" and "_default" are the
  // node's POSIX list in Linux's format: setting one replaces an NFSv4 list.
  virtual Result<std::string> GetXattr(NodeId node, std::string_view name) = 0;
  enum class XattrMode { kCreateOrReplace, kCreate, kReplace };
  virtual Result<void> SetXattr(const Caller& caller, NodeId node, std::string_view name,
                                std::string_view value, XattrMode mode) = 0;
  virtual Result<void> RemoveXattr(const Caller& caller, NodeId node, std::string_view name) = 0;
  virtual Result<std::vector<std::string>> ListXattrs(NodeId node) = 0;

  // --- open files: keep an unlinked node alive. Counted; survives nothing (orphans are reclaimed at mount).
  virtual Result<void> Hold(NodeId node) = 0;
  virtual void Release(NodeId node) = 0;

  // --- data. Any offset and length up to kFileBytesMax; length <= 1 MiB per call is answered at full speed, more is allowed up to 16 MiB.
  // kKeep: the access time stays (O_NOATIME).
  enum class AccessTime : std::uint8_t { kTouch, kKeep };
  virtual Result<ReadResult> Read(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                  AccessTime access_time = AccessTime::kTouch) = 0;
  virtual Result<WriteResult> Write(NodeId node, std::uint64_t offset_bytes,
                                    std::span<const iovec> data, Stability stability,
                                    QuotaRule rule = QuotaRule::kEnforce) = 0;
  // The same without waiting: `done` runs once, inline when all is in memory, else on the engine's completion thread. Segments of
  // `data` must stay valid until then.
  virtual void ReadAsync(NodeId node, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                         std::function<void(Result<ReadResult>)> done) = 0;
  virtual void WriteAsync(NodeId node, std::uint64_t offset_bytes, std::span<const iovec> data,
                          Stability stability, std::function<void(Result<WriteResult>)> done,
                          QuotaRule rule = QuotaRule::kEnforce) = 0;
  // Makes unstable data of the range (length 0: to the end) durable, and the size as far as the range reaches. Errors: kIo; the verifier then changes.
  virtual Result<WriteVerifier> Commit(NodeId node, std::uint64_t offset_bytes,
                                       std::uint64_t length_bytes) = 0;
  virtual WriteVerifier Verifier() const = 0;
  // Everything of all files, and metadata (syncfs).
  virtual Result<void> SyncAll() = 0;
  // Punches a hole; size stays. Allocate: zero-filled, space assured; extends the size unless keep_size.
  virtual Result<void> Deallocate(const Caller& caller, NodeId node, std::uint64_t offset_bytes,
                                  std::uint64_t length_bytes) = 0;
  virtual Result<void> Allocate(const Caller& caller, NodeId node, std::uint64_t offset_bytes,
                                std::uint64_t length_bytes, bool keep_size) = 0;
  // Next data (or hole) at or after offset; kOutOfRange past the last (ENXIO).
  virtual Result<std::uint64_t> Seek(NodeId node, std::uint64_t offset_bytes, bool want_data) = 0;

  // --- quotas, of each fileset its own. kQuotaExceeded is answered by the operation that asks for the space or the inode: create, write (unstable, too),
  // allocate, and where a node comes to another owner, group or project. Changes need a privileged caller (kNotPermitted).
  virtual Result<Quota> GetQuota(QuotaKind kind, std::uint32_t id,
                                 std::uint32_t fileset = kRootFileset) = 0;
  virtual Result<void> SetQuota(const Caller& caller, QuotaKind kind, std::uint32_t id,
                                const QuotaLimits& limits,
                                std::uint32_t fileset = kRootFileset) = 0;
  // In order of id, from `first_id` on, until `visit` returns false: every id that has limits or uses anything.
  virtual Result<void> ListQuotas(QuotaKind kind, std::uint32_t first_id,
                                  const std::function<bool(const Quota& quota)>& visit,
                                  std::uint32_t fileset = kRootFileset) = 0;
  virtual Result<QuotaGrace> GetQuotaGrace(QuotaKind kind,
                                           std::uint32_t fileset = kRootFileset) = 0;
  virtual Result<void> SetQuotaGrace(const Caller& caller, QuotaKind kind, QuotaGrace grace,
                                     std::uint32_t fileset = kRootFileset) = 0;
  // One node. `inherits` (directories only): what is made in it from now on has the project, too. Nothing may be linked or renamed
  // into such a directory from another project (kCrossesFileset, EXDEV).
  virtual Result<void> SetProject(const Caller& caller, NodeId node, std::uint32_t project,
                                  bool inherits) = 0;
  // The directory and all below it, `nodes_max` nodes in a call, until walk.is_done. From above: what is made meanwhile inherits.
  virtual Result<void> SetProjectBelow(const Caller& caller, NodeId directory,
                                       std::uint32_t project, std::size_t nodes_max,
                                       ProjectWalk& walk) = 0;

  // --- byte-range locks, one table for all doors
  // nullopt: granted (replaces or splits the owner's own ranges as POSIX does); else the first conflict. Never waits.
  virtual Result<std::optional<LockConflict>> Lock(NodeId node, std::string_view owner,
                                                   const LockRange& range) = 0;
  virtual Result<std::optional<LockConflict>> TestLock(NodeId node, std::string_view owner,
                                                       const LockRange& range) = 0;
  virtual Result<void> Unlock(NodeId node, std::string_view owner, std::uint64_t offset_bytes,
                              std::uint64_t length_bytes) = 0;
  virtual void UnlockAll(NodeId node, std::string_view owner) = 0;
  // `wake` is called (without locks) whenever a lock of the node was released; 0 unregisters nothing. Returns a registration.
  virtual std::uint64_t WatchUnlocks(NodeId node, std::function<void()> wake) = 0;
  virtual void CancelWatch(std::uint64_t registration) = 0;

  // --- wire handles: volume, fileset, snapshot, inode, generation, export id and a keyed 64-bit MAC (SipHash-2-4)
  using HandleBytes = std::array<std::uint8_t, kHandleBytes>;
  virtual HandleBytes EncodeHandle(const Attributes& node, std::uint16_t export_id) const = 0;
  struct DecodedHandle {
    NodeId node;
    std::uint64_t generation = 0;
    std::uint16_t export_id = 0;
  };
  // Errors: kBadHandle (length, volume, MAC). Does not say that the node exists.
  virtual Result<DecodedHandle> DecodeHandle(std::span<const std::uint8_t> bytes) const = 0;

  // --- told to whoever caches (Ganesha's MDCACHE, the kernel behind the FUSE mount): `door` (1 to kDoorsMax) hears of every change that
  // was made through another one (access times and allocated blocks apart), on the changing thread, without locks, after the change and
  // before the changing call returns. One listener a door; an empty one ends it, though a call that has begun may still run for a moment.
  struct Change {
    NodeId node;            // whose attributes, content or, if it is a directory, entries changed
    std::string_view name;  // not empty: this entry of directory `node` came, went, or is another node now. Valid during the call
    bool has_moved = false;  // `node` has another parent or name now
  };
  using ChangeListener = std::function<void(const Change& change)>;
  virtual void SetChangeListener(std::uint32_t door, ChangeListener listener) = 0;

  // One pass on a thread of its own; goes on where the last one was stopped, also by an unmount or a crash (then by itself, at mount).
  // Errors: kBusy (one is running).
  virtual Result<void> StartScrub(const ScrubOptions& options) = 0;
  virtual ScrubStatus GetScrubStatus() const = 0;
  // Within 100 ms. Errors: kNotRunning.
  virtual Result<void> StopScrub() = 0;

  virtual EngineCounters Counters() const = 0;
  virtual EngineStatistics Statistics() const = 0;
  // Whether changes can still be made durable. Once they cannot (the log failed: the disk is full, the device is gone), every change is
  // refused with kReadOnly until the volume is mounted again; what is durable is still read. Errors: kIo with the reason, for a person.
  virtual Result<void> Health() const = 0;
};

// The calling thread works for this door from now on (0: none). Cheap, thread-local.
void SetDoor(std::uint32_t door) noexcept;
std::uint32_t CurrentDoor() noexcept;
inline constexpr std::uint32_t kDoorNfs = 1;
inline constexpr std::uint32_t kDoorPosix = 2;
inline constexpr std::uint32_t kDoorsMax = 7;

}  // namespace filer::engine
