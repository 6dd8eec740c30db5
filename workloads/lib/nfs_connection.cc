#include "workloads/lib/nfs_connection.h"

#include <cerrno>
#include <charconv>
#include <string_view>

namespace filer::workloads {
namespace {

constexpr std::string_view kForm = "nfs://HOST/SHARE?nfsport=N&mountport=N&version=3|4";

Error Unparsable(const std::string& url) {
  return Error(Errc::kInvalidArgument, url + ": not of the form " + std::string(kForm));
}

Result<int> Number(const std::string& url, std::string_view text, int smallest, int largest) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < smallest ||
      value > largest) {
    return Unparsable(url);
  }
  return value;
}

Result<void> TakeArgument(const std::string& url, std::string_view argument, NfsServer& server,
                          bool& has_mount_port) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string_view::npos) return Unparsable(url);
  const std::string_view name = argument.substr(0, equals);
  const std::string_view value = argument.substr(equals + 1);
  if (name == "nfsport") {
    server.nfs_port = FILER_TRY(Number(url, value, 1, 65535));
  } else if (name == "mountport") {
    server.mount_port = FILER_TRY(Number(url, value, 1, 65535));
    has_mount_port = true;
  } else if (name == "version") {
    server.version = FILER_TRY(Number(url, value, 3, 4));
  } else {
    return Unparsable(url);
  }
  return Ok();
}

}  // namespace

Errc NfsErrorCode(int error_number) {
  switch (error_number) {
    case ENOENT:
      return Errc::kNotFound;
    case EEXIST:
      return Errc::kExists;
    case ENOTEMPTY:
      return Errc::kNotEmpty;
    case ENOSPC:
      return Errc::kNoSpace;
    case EACCES:
      return Errc::kAccessDenied;
    case ESTALE:
      return Errc::kStaleHandle;
    case EROFS:
      return Errc::kReadOnly;
    default:
      return Errc::kIo;
  }
}

Result<NfsServer> ParseNfsUrl(const std::string& url) {
  constexpr std::string_view kScheme = "nfs://";
  std::string_view rest = url;
  if (!rest.starts_with(kScheme)) return Unparsable(url);
  rest.remove_prefix(kScheme.size());
  const std::size_t question = rest.find('?');
  std::string_view arguments;
  if (question != std::string_view::npos) {
    arguments = rest.substr(question + 1);
    rest = rest.substr(0, question);
  }
  const std::size_t slash = rest.find('/');
  if (slash == 0 || slash == std::string_view::npos) return Unparsable(url);
  NfsServer server;
  server.host = rest.substr(0, slash);
  server.share = rest.substr(slash);
  bool has_mount_port = false;
  while (!arguments.empty()) {
    const std::size_t end = std::min(arguments.find('&'), arguments.size());
    FILER_TRY(TakeArgument(url, arguments.substr(0, end), server, has_mount_port));
    arguments.remove_prefix(std::min(end + 1, arguments.size()));
  }
  if (!has_mount_port) server.mount_port = server.nfs_port;
  return server;
}

Result<std::unique_ptr<NfsConnection>> NfsConnection::Connect(const std::string& url) {
  const NfsServer server = FILER_TRY(ParseNfsUrl(url));
  return server.version == 3 ? ConnectNfs3(server) : ConnectNfs4(url);
}

}  // namespace filer::workloads
