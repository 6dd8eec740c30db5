// data_operations.cc: READ, WRITE, COMMIT, SEEK, ALLOCATE, DEALLOCATE.
//
// READ and WRITE complete by callback: on the calling thread when the engine has all in memory,
// else on a thread of the engine, which then needs an operation context of Ganesha's. The request
// of the client stays alive until the callback, and with it its export.
#include "fsal/ganesha/attributes.h"
#include "fsal/ganesha/object.h"
#include "fsal/ganesha/read_reply.h"

namespace filer::ganesha {

namespace {

// What is needed to finish an operation later. Deleted by Finish.
struct DataRequest {
  fsal_obj_handle* object = nullptr;
  fsal_async_cb callback = nullptr;
  fsal_io_arg* argument = nullptr;
  void* callback_argument = nullptr;
  req_op_context* context = nullptr;  // of the client's request; identifies the submitting thread
  gsh_export* server_export = nullptr;
  fsal_export* our_export = nullptr;
  fsal_openflags_t temporary_share = FSAL_O_CLOSED;  // to give back
  ReplyBudget::Connection connection = nullptr;      // null: not from a client
  ReplyBudget::Entry entry;                          // READ only
  bool is_private_copy = false;
};

DataRequest* NewRequest(fsal_obj_handle* object, fsal_async_cb callback, fsal_io_arg* argument,
                        void* callback_argument) {
  auto* request = new DataRequest;
  request->object = object;
  request->callback = callback;
  request->argument = argument;
  request->callback_argument = callback_argument;
  request->context = op_ctx;
  request->server_export = op_ctx->ctx_export;
  request->our_export = op_ctx->fsal_export;
  const nfs_request_t* rpc = op_ctx->nfs_reqdata;
  if (rpc != nullptr) request->connection = rpc->svc.rq_xprt;
  request->is_private_copy = rpc != nullptr && rpc->svc.rq_msg.cb_cred.oa_flavor == RPCSEC_GSS;
  return request;
}

// Without a state (NFSv3, special stateids) the operation itself takes part in share reservations,
// as long as it runs.
fsal_status_t TakeShare(DataRequest& request, fsal_openflags_t access, bool bypass) {
  if (request.argument->state != nullptr) return Success();
  FILER_CHECK_STATUS(check_share_conflict_and_update_locked(
      request.object, &ToHandle(request.object).share, FSAL_O_CLOSED, access, bypass));
  request.temporary_share = access;
  return Success();
}

// Gives back what the request took, calls back, deletes the request.
void Finish(DataRequest* request, fsal_status_t status) noexcept {
  const std::unique_ptr<DataRequest> owned(request);
  if (request->temporary_share != FSAL_O_CLOSED) {
    update_share_counters_locked(request->object, &ToHandle(request->object).share,
                                 request->temporary_share, FSAL_O_CLOSED);
  }
  if (op_ctx == request->context) {
    request->callback(request->object, status, request->argument, request->callback_argument);
    return;
  }
  req_op_context context;
  get_gsh_export_ref(request->server_export);
  init_op_context_simple(&context, request->server_export, request->our_export);
  request->callback(request->object, status, request->argument, request->callback_argument);
  release_op_context();
}

// Runs `start`, which takes over the request; whatever goes wrong before the engine has it is
// answered here.
template <typename Start>
void StartRequest(const char* operation, fsal_obj_handle* object, fsal_async_cb callback,
                  fsal_io_arg* argument, void* callback_argument, Start&& start) noexcept {
  DataRequest* request = nullptr;
  const fsal_status_t status = Guarded(operation, [&] {
    request = NewRequest(object, callback, argument, callback_argument);
    return start(request);
  });
  if (!IsError(status)) return;
  if (request != nullptr) {
    Finish(request, status);
  } else {
    callback(object, status, argument, callback_argument);
  }
}

std::uint64_t TotalBytes(const fsal_io_arg& argument) {
  std::uint64_t total_bytes = 0;
  for (int i = 0; i < argument.iov_count; ++i) total_bytes += argument.iov[i].iov_len;
  return total_bytes;
}

std::span<const iovec> Segments(const fsal_io_arg& argument) {
  return {argument.iov, static_cast<std::size_t>(argument.iov_count)};
}

void ReleaseReadReply(void* release_data) noexcept {
  delete static_cast<ReadReply*>(release_data);
  EngineHost::Instance().copies().pinned_reads.fetch_sub(1, std::memory_order_release);
}

// Hands the engine's buffers to Ganesha, or fills the buffers that it brought. A client that leaves
// too many answers on its connection gets copies, then NFS3ERR_JUKEBOX or NFS4ERR_DELAY.
fsal_status_t AnswerRead(const DataRequest& request, engine::ReadResult&& result) {
  fsal_io_arg& argument = *request.argument;
  CopyCounters& copies = EngineHost::Instance().copies();
  argument.end_of_file = result.is_end_of_file;
  argument.io_amount = result.length_bytes;
  if (result.length_bytes == 0) return Success();
  if (argument.iov[0].iov_base != nullptr) {
    const auto copied_bytes = CopyOut(result, Segments(argument));
    copies.read_bytes.fetch_add(copied_bytes, std::memory_order_relaxed);
    return Success();
  }
  ReplyBudget::Hold hold = EngineHost::Instance().reply_budget().Take(
      request.connection, result.holds, result.length_bytes, request.is_private_copy);
  if (!hold) return Status(ERR_FSAL_DELAY);
  auto reply = std::make_unique<ReadReply>(MakeReadReply(std::move(result), hold.is_copy()));
  reply->hold = std::move(hold);
  for (iovec& segment : reply->segments) {
    if (segment.iov_base == nullptr) segment.iov_base = reply->tail.data();
  }
  copies.read_bytes.fetch_add(reply->copied_bytes, std::memory_order_relaxed);
  copies.pinned_reads.fetch_add(1, std::memory_order_relaxed);
  argument.iov = reply->segments.data();
  argument.iov_count = static_cast<int>(reply->segments.size());
  argument.iov_release = ReleaseReadReply;
  argument.release_data = reply.release();
  return Success();
}

void Read(fsal_obj_handle* object, bool bypass, fsal_async_cb callback, fsal_io_arg* argument,
          void* callback_argument) noexcept {
  StartRequest("read2", object, callback, argument, callback_argument, [&](DataRequest* request) {
    if (argument->info != nullptr) return Status(ERR_FSAL_NOTSUPP);  // READ_PLUS
    if (object->type != REGULAR_FILE) return Status(ERR_FSAL_INVAL);
    const std::uint64_t length_bytes = TotalBytes(*argument);
    request->entry = EngineHost::Instance().reply_budget().Enter(request->connection, length_bytes);
    if (!request->entry) return Status(ERR_FSAL_DELAY);
    FILER_CHECK_STATUS(TakeShare(*request, FSAL_O_READ, bypass));
    TheEngine().ReadAsync(NodeOf(object), argument->offset, length_bytes,
                          [request](Result<engine::ReadResult> result) noexcept {
                            Finish(request, Guarded("read2", [&] {
                                     return AnswerRead(*request,
                                                       FILER_TRY_STATUS(std::move(result)));
                                   }));
                          });
    return Success();
  });
}

fsal_status_t AnswerWrite(const DataRequest& request, const engine::WriteResult& result) {
  request.argument->io_amount = result.length_bytes;
  request.argument->fsal_stable = result.committed != engine::Stability::kUnstable;
  return Success();
}

void Write(fsal_obj_handle* object, bool bypass, fsal_async_cb callback, fsal_io_arg* argument,
           void* callback_argument) noexcept {
  StartRequest("write2", object, callback, argument, callback_argument, [&](DataRequest* request) {
    if (object->type != REGULAR_FILE) return Status(ERR_FSAL_INVAL);
    FILER_CHECK_STATUS(TakeShare(*request, FSAL_O_WRITE, bypass));
    FILER_TRY_STATUS(TheEngine().DropPrivileges(ToCaller(op_ctx->creds), NodeOf(object)));
    const auto stability =
        argument->fsal_stable ? engine::Stability::kFileSync : engine::Stability::kUnstable;
    TheEngine().WriteAsync(
        NodeOf(object), argument->offset, Segments(*argument), stability,
        [request](Result<engine::WriteResult> result) noexcept {
          Finish(request, Guarded("write2", [&] {
                   return AnswerWrite(*request, FILER_TRY_STATUS(std::move(result)));
                 }));
        },
        engine::QuotaRuleOf(ToCaller(op_ctx->creds)));
    return Success();
  });
}

fsal_status_t Commit(fsal_obj_handle* object, off_t offset, size_t length) noexcept {
  return Guarded("commit2", [&] {
    FILER_TRY_STATUS(
        TheEngine().Commit(NodeOf(object), static_cast<std::uint64_t>(offset), length));
    return Success();
  });
}

// RFC 7862, 15.11: past the end is NXIO; no more data is eof, not an error.
fsal_status_t Seek(fsal_obj_handle* object, state_t* /*state*/, io_info* info) noexcept {
  return Guarded("seek2", [&] {
    const bool want_data = info->io_content.what == NFS4_CONTENT_DATA;
    if (!want_data && info->io_content.what != NFS4_CONTENT_HOLE) {
      return Status(ERR_FSAL_UNION_NOTSUPP);
    }
    const std::uint64_t offset = info->io_content.hole.di_offset;
    const auto attributes = FILER_TRY_STATUS(TheEngine().GetAttributes(NodeOf(object)));
    if (offset >= attributes.size_bytes) return Status(ERR_FSAL_NXIO);
    const auto found = TheEngine().Seek(NodeOf(object), offset, want_data);
    if (!found.has_value()) {
      if (!(found.assume_error() == Errc::kOutOfRange)) return ToStatus(found.assume_error());
      info->io_eof = TRUE;
      return Success();
    }
    info->io_eof = found.assume_value() >= attributes.size_bytes ? TRUE : FALSE;
    info->io_content.hole.di_offset = found.assume_value();
    return Success();
  });
}

fsal_status_t Allocate(fsal_obj_handle* object, state_t* state, std::uint64_t offset,
                       std::uint64_t length, bool is_allocate) noexcept {
  return Guarded("fallocate", [&] {
    if (object->type != REGULAR_FILE) return Status(ERR_FSAL_INVAL);
    if (state == nullptr) FILER_CHECK_STATUS(CheckAccess(object, Access::kWrite, true));
    FILER_TRY_STATUS(TheEngine().DropPrivileges(ToCaller(op_ctx->creds), NodeOf(object)));
    engine::Caller caller = ToCaller(op_ctx->creds);
    caller.is_trusted = true;  // the open, or the access check
    if (is_allocate) {
      FILER_TRY_STATUS(TheEngine().Allocate(caller, NodeOf(object), offset, length, false));
    } else {
      FILER_TRY_STATUS(TheEngine().Deallocate(caller, NodeOf(object), offset, length));
    }
    return Success();
  });
}

}  // namespace

void InstallDataOperations(fsal_obj_ops& operations) noexcept {
  operations.read2 = Read;
  operations.write2 = Write;
  operations.commit2 = Commit;
  operations.seek2 = Seek;
  operations.fallocate = Allocate;
}

}  // namespace filer::ganesha
