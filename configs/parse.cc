// ParseConfig: from TOML to a checked ApplianceConfig. One function per table; what concerns
// several tables at once is checked at the end of the function of the later one.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include "configs/config.h"
#include "configs/syntax.h"
#include "configs/toml_reader.h"

namespace filer::configs {
namespace {

using Keys = std::span<const std::string_view>;
constexpr std::array<std::string_view, 7> kRootKeys = {"appliance", "guest",  "bridge", "nfs",
                                                       "smb",       "volume", "export"};
constexpr std::array<std::string_view, 1> kApplianceKeys = {"name"};
constexpr std::array<std::string_view, 6> kGuestKeys = {"memory_mb", "cpus",    "accel",
                                                        "nic",       "address", "gateway"};
constexpr std::array<std::string_view, 1> kBridgeKeys = {"pollers"};
constexpr std::array<std::string_view, 3> kNfsKeys = {"port", "mount_port", "address"};
constexpr std::array<std::string_view, 3> kSmbKeys = {"port", "address", "user"};
constexpr std::array<std::string_view, 6> kVolumeKeys = {"name",    "path",     "size",
                                                         "backend", "iops_max", "bandwidth_max"};
constexpr std::array<std::string_view, 10> kExportKeys = {
    "name",   "path",          "volume",        "protocols", "read_only",
    "squash", "anonymous_uid", "anonymous_gid", "clients",   "mode"};

constexpr std::int64_t kIopsMost = 1'000'000'000;
constexpr std::uint64_t kBandwidthMin = 64 << 10;

constexpr std::string_view kNameRule =
    "write 1 to 63 letters, digits, '.', '_' or '-' (not '-' first)";

void ReadName(TableReader& reader, std::string& target) {
  if (reader.String("name", target) && !IsName(target)) reader.AddError("name", kNameRule);
}

using WhyNot = std::optional<std::string> (*)(std::string_view);

void ReadPath(TableReader& reader, std::string& target, WhyNot why_not, std::string_view example) {
  if (!reader.String("path", target)) return;
  if (const auto why = why_not(target)) {
    reader.AddError("path", fmt::format("{}; write an absolute path such as {}", *why, example));
  }
}

void ReadAddress(TableReader& reader, std::string& target) {
  std::string text;
  if (!reader.String("address", text)) return;
  auto address = ParseAddress(text);
  if (address.has_value()) {
    target = std::move(address).assume_value();
  } else {
    reader.AddError("address", "is not an address; " + address.error().message());
  }
}

// False: it is wrong, so nothing can be said about what depends on it.
bool ReadNic(TableReader& reader, GuestConfig& guest) {
  std::string text;
  if (!reader.Has("nic")) return true;
  if (!reader.String("nic", text)) return false;
  if (text == "user") return true;
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  guest.nic_device = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (kind == "tap" && IsInterfaceName(guest.nic_device)) {
    guest.nic = Nic::kTap;
  } else if (kind == "vf" && IsPciAddress(guest.nic_device)) {
    guest.nic = Nic::kVf;
  } else {
    reader.AddError("nic", "write \"user\", \"tap:NAME\" or \"vf:0000:03:10.2\"");
    return false;
  }
  return true;
}

// The address of the guest, when its NIC is not QEMU's own network.
void ReadGuestAddress(TableReader& reader, GuestConfig& guest) {
  const bool has_address = reader.String("address", guest.address);
  const bool has_gateway = reader.String("gateway", guest.gateway);
  if (guest.nic == Nic::kUser) {
    if (has_address)
      reader.AddError("address", "is for nic = \"tap:...\" or \"vf:...\" only; remove it");
    if (has_gateway)
      reader.AddError("gateway", "is for nic = \"tap:...\" or \"vf:...\" only; remove it");
    return;
  }
  if (!has_address) {
    reader.AddError("nic", "needs the guest's address; add address = \"192.0.2.5/24\"");
  } else if (!IsHostInNetwork(guest.address)) {
    reader.AddError("address",
                    "is not an IPv4 address with its prefix; write e.g. \"192.0.2.5/24\"");
  }
  if (has_gateway && !IsIpv4(guest.gateway)) {
    reader.AddError("gateway", "is not an IPv4 address; write e.g. \"192.0.2.1\"");
  }
}

void ReadGuest(TableReader& reader, GuestConfig& guest) {
  reader.Integer("memory_mb", 256, 1 << 20, guest.memory_mb);
  reader.Integer("cpus", 1, 256, guest.cpus);
  reader.Word("accel", {Accelerator::kAuto, Accelerator::kKvm, Accelerator::kTcg}, guest.accel);
  if (ReadNic(reader, guest)) ReadGuestAddress(reader, guest);
}

// Ports must differ, because all servers may listen on one address.
class PortTable {
 public:
  void Add(TableReader& reader, std::string_view key, std::uint16_t port, std::string user) {
    const auto [other, is_new] = used_.try_emplace(port, user);
    if (!is_new) {
      reader.AddError(key, fmt::format("port {} is that of {} already; choose another for {}", port,
                                       other->second, user));
    }
  }

 private:
  std::map<std::uint16_t, std::string> used_;
};

void ReadNfs(TableReader& reader, NfsConfig& nfs, PortTable& ports) {
  reader.Integer("port", 1, 65535, nfs.port);
  if (!reader.Integer("mount_port", 1, 65535, nfs.mount_port)) {
    nfs.mount_port = static_cast<std::uint16_t>(nfs.port == 65535 ? 65534 : nfs.port + 1);
  }
  ReadAddress(reader, nfs.address);
  ports.Add(reader, "port", nfs.port, "nfs.port");
  ports.Add(reader, "mount_port", nfs.mount_port, "nfs.mount_port");
}

void ReadSmb(TableReader& reader, SmbConfig& smb, PortTable& ports) {
  reader.Integer("port", 1, 65535, smb.port);
  ReadAddress(reader, smb.address);
  if (reader.String("user", smb.user) && !IsAccountName(smb.user)) {
    reader.AddError("user",
                    "write 1 to 32 small letters, digits, '_' or '-', starting with a letter");
  }
  ports.Add(reader, "port", smb.port, "smb.port");
}

void ReadSize(TableReader& reader, std::uint64_t& target) {
  std::string text;
  if (!reader.TextOrInteger("size", false, text)) return;
  const auto size = ParseSize(text);
  if (!size.has_value()) {
    reader.AddError("size", "is no size; write a number with K, M, G or T, e.g. \"8G\"");
  } else if (size.value() < kVolumeBytesMin || size.value() > kVolumeBytesMax) {
    reader.AddError("size", fmt::format("{} is out of range; write {} to {}", text,
                                        FormatSize(kVolumeBytesMin), FormatSize(kVolumeBytesMax)));
  } else if (size.value() % 4096 != 0) {
    reader.AddError("size", "is not a multiple of 4096 bytes; write e.g. \"8G\"");
  } else {
    target = size.value();
  }
}

// Bytes per second.
void ReadBandwidth(TableReader& reader, std::uint64_t& target) {
  std::string text;
  if (!reader.TextOrInteger("bandwidth_max", false, text)) return;
  const auto bytes = ParseSize(text);
  if (!bytes.has_value() || bytes.value() < kBandwidthMin) {
    reader.AddError("bandwidth_max",
                    "is no number of bytes per second from 64K up; write e.g. \"200M\"");
  } else {
    target = bytes.value();
  }
}

VolumeConfig ReadVolume(TableReader& reader, const std::string& home) {
  VolumeConfig volume;
  ReadName(reader, volume.name);
  volume.path = home + "/volumes/" + volume.name + ".img";
  ReadPath(reader, volume.path, WhyNotVolumePath, "/srv/main.img");
  ReadSize(reader, volume.size_bytes);
  reader.Word("backend", {VolumeBackend::kFile, VolumeBackend::kMemory}, volume.backend);
  reader.Integer("iops_max", 1, kIopsMost, volume.iops_max);
  ReadBandwidth(reader, volume.bytes_per_s_max);
  return volume;
}

void ReadProtocols(TableReader& reader, ExportConfig& target, Errors& errors) {
  bool nfs = false;
  bool smb = false;
  const bool is_given = reader.Strings("protocols", [&](Place place, const std::string& word) {
    if (word == "nfs") {
      nfs = true;
    } else if (word == "smb") {
      smb = true;
    } else {
      errors.Add(place, "protocols in [[export]]: write \"nfs\" and/or \"smb\"");
    }
  });
  if (!is_given) return;
  if (!nfs && !smb) reader.AddError("protocols", "is empty; write \"nfs\" and/or \"smb\"");
  target.nfs = nfs;
  target.smb = smb;
}

void ReadClients(TableReader& reader, ExportConfig& target, Errors& errors) {
  std::vector<std::string> clients;
  const bool is_given = reader.Strings("clients", [&](Place place, const std::string& text) {
    auto rule = ParseClientRule(text);
    if (!rule.has_value()) {
      errors.Add(place, "clients in [[export]]: " + rule.error().message());
    } else if (std::find(clients.begin(), clients.end(), rule.value()) != clients.end()) {
      errors.Add(place,
                 fmt::format("clients in [[export]]: {} is there twice; remove one", rule.value()));
    } else {
      clients.push_back(std::move(rule).assume_value());
    }
  });
  if (is_given) target.clients = std::move(clients);
}

void ReadMode(TableReader& reader, std::uint32_t& target) {
  std::string text;
  if (!reader.TextOrInteger("mode", true, text)) return;
  std::uint32_t mode = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc{} || end != text.data() + text.size() || mode > 07777) {
    reader.AddError("mode", "is no mode; write octal digits, e.g. \"1777\" or 0o755");
    return;
  }
  target = mode;
}

ExportConfig ReadExport(TableReader& reader, const std::vector<VolumeConfig>& volumes,
                        Errors& errors) {
  ExportConfig target;
  ReadName(reader, target.name);
  // Samba's own sections and services (smb.conf(5)); "ipc$" cannot be spelt as a name of ours.
  std::string folded = target.name;
  std::transform(folded.begin(), folded.end(), folded.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  if (folded == "global" || folded == "homes" || folded == "printers") {
    reader.AddError("name", fmt::format("\"{}\" means something else to the SMB server; choose "
                                        "another name",
                                        target.name));
  }
  target.path = "/" + target.name;
  ReadPath(reader, target.path, WhyNotPath, "/share");
  if (!volumes.empty()) target.volume = volumes.front().name;
  if (reader.String("volume", target.volume)) {
    const auto is_it = [&](const VolumeConfig& volume) { return volume.name == target.volume; };
    if (std::none_of(volumes.begin(), volumes.end(), is_it)) {
      reader.AddError("volume",
                      "there is no [[volume]] of that name; its name must be written as "
                      "it is there");
    }
  }
  ReadProtocols(reader, target, errors);
  reader.Boolean("read_only", target.read_only);
  reader.Word("squash", {Squash::kRoot, Squash::kNone, Squash::kAll}, target.squash);
  // The highest id means "none" to chown(2).
  reader.Integer("anonymous_uid", 0, UINT32_MAX - 1LL, target.anonymous_uid);
  reader.Integer("anonymous_gid", 0, UINT32_MAX - 1LL, target.anonymous_gid);
  ReadClients(reader, target, errors);
  ReadMode(reader, target.mode);
  return target;
}

// Reports names that differ only in case, too: SMB does not tell them apart.
class NameTable {
 public:
  void Add(TableReader& reader, const std::string& name) {
    std::string folded = name;
    std::transform(folded.begin(), folded.end(), folded.begin(),
                   [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    if (!used_.insert(folded).second) {
      reader.AddError("name", fmt::format("\"{}\" is taken; choose another", name));
    }
  }

 private:
  std::set<std::string> used_;
};

void ReadVolumes(TableReader& root, const std::string& home, ApplianceConfig& config,
                 Errors& errors) {
  const auto tables = root.Tables("volume");
  if (tables.empty()) return;
  config.volumes.clear();
  NameTable names;
  for (const toml::table* table : tables) {
    TableReader reader(*table, "[[volume]]", Keys(kVolumeKeys), errors);
    config.volumes.push_back(ReadVolume(reader, home));
    names.Add(reader, config.volumes.back().name);
    if (config.volumes.size() == 2) {
      errors.Add(reader.place(),
                 "a second [[volume]] is not supported yet; keep one volume and export several "
                 "directories of it");
    }
  }
}

void ReadExports(TableReader& root, ApplianceConfig& config, Errors& errors) {
  const auto tables = root.Tables("export");
  config.exports.front().volume = config.volumes.front().name;
  if (tables.empty()) return;
  config.exports.clear();
  NameTable names;
  for (const toml::table* table : tables) {
    TableReader reader(*table, "[[export]]", Keys(kExportKeys), errors);
    config.exports.push_back(ReadExport(reader, config.volumes, errors));
    names.Add(reader, config.exports.back().name);
  }
}

void ReadRoot(const toml::table& table, const std::string& home, ApplianceConfig& config,
              Errors& errors) {
  TableReader root(table, "the file", Keys(kRootKeys), errors);
  const toml::table none;
  const auto table_or_none = [&](std::string_view key) -> const toml::table& {
    const toml::table* found = root.Table(key);
    return found == nullptr ? none : *found;
  };

  TableReader appliance(table_or_none("appliance"), "[appliance]", Keys(kApplianceKeys), errors);
  ReadName(appliance, config.name);
  TableReader guest(table_or_none("guest"), "[guest]", Keys(kGuestKeys), errors);
  ReadGuest(guest, config.guest);
  TableReader bridge(table_or_none("bridge"), "[bridge]", Keys(kBridgeKeys), errors);
  bridge.Integer("pollers", 1, 16, config.bridge.pollers);
  PortTable ports;
  TableReader nfs(table_or_none("nfs"), "[nfs]", Keys(kNfsKeys), errors);
  ReadNfs(nfs, config.nfs, ports);
  TableReader smb(table_or_none("smb"), "[smb]", Keys(kSmbKeys), errors);
  config.smb.address = config.nfs.address;
  ReadSmb(smb, config.smb, ports);
  if (config.guest.nic != Nic::kUser) {
    // The guest has an address of its own; nothing listens on this machine.
    for (TableReader* reader : {&nfs, &smb}) {
      if (reader->Has("address")) {
        reader->AddError("address", "is that of [guest] with this nic; remove it here");
      }
    }
    config.nfs.address = config.smb.address =
        config.guest.address.substr(0, config.guest.address.find('/'));
  }
  ReadVolumes(root, home, config, errors);
  ReadExports(root, config, errors);
}

}  // namespace

ParsedConfig ParseConfig(std::string_view text, const std::string& file_name,
                         const std::string& home) {
  ParsedConfig parsed;
  parsed.config = DefaultConfig(home);
  Errors errors(file_name);
  try {
    const toml::table table = toml::parse(text, file_name);
    ReadRoot(table, home, parsed.config, errors);
  } catch (const toml::parse_error& error) {
    errors.Add(PlaceOf(error.source()),
               fmt::format("not valid TOML: {}; mend the line", error.description()));
  }
  parsed.errors = errors.Lines();
  return parsed;
}

}  // namespace filer::configs
