// main.cc: the `filer` command: nouns and verbs to functions. Usage errors are one line and exit
// code 2.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <functional>

#include "base/json_rpc.h"
#include "base/log.h"
#include "configs/command/commands.h"
#include "configs/command/console.h"

namespace filer::command {
namespace {

constexpr const char* kDefaultHome = "/var/lib/nearmetal";

struct Arguments {
  Home home;
  bool as_json = false;
  bool is_probing = false;
  UpOptions up;
  VolumeOptions volume;
  ScrubOptions scrub;
  std::string program;  // bridge upgrade
  TopOptions top;
  FilesetOptions fileset;
  QuotaOptions quota;
  std::string test_what = "all";
  std::function<int()> chosen;
};

void AddUpAndDown(CLI::App& app, Arguments& arguments) {
  auto* up = app.add_subcommand("up", "start the filer and print how to mount it");
  up->add_option("--mode", arguments.up.mode, "guest (default) or host")
      ->check(CLI::IsMember({"guest", "host"}));
  up->add_option("--accel", arguments.up.accelerator, "auto, kvm or tcg")
      ->check(CLI::IsMember({"auto", "kvm", "tcg"}));
  up->add_option("--config", arguments.up.config_path, "configuration file (TOML)");
  up->add_flag("--viommu", arguments.up.has_viommu,
               "give the guest an IOMMU; its driver then uses VFIO");
  up->callback([&] { arguments.chosen = [&] { return Up(arguments.home, arguments.up); }; });
  auto* down = app.add_subcommand("down", "stop the filer");
  down->callback([&] { arguments.chosen = [&] { return Down(arguments.home); }; });
  auto* status = app.add_subcommand("status", "what runs, and how it does");
  status->add_flag("--json", arguments.as_json, "as JSON, schema filer.status/1");
  status->callback(
      [&] { arguments.chosen = [&] { return Status(arguments.home, arguments.as_json); }; });
  auto* doctor = app.add_subcommand("doctor", "examine the machine");
  doctor->add_flag("--json", arguments.as_json, "as JSON, schema filer.doctor/1");
  doctor->add_flag("--probe", arguments.is_probing,
                   "try KVM now instead of quoting an earlier start");
  doctor->callback([&] {
    arguments.chosen = [&] {
      return Doctor(arguments.home, arguments.is_probing, arguments.as_json);
    };
  });
}

void AddVolume(CLI::App& app, Arguments& arguments) {
  auto* volume = app.add_subcommand("volume", "volume files on this machine");
  volume->require_subcommand(1);
  using Function = int (*)(const Home&, const VolumeOptions&);
  const auto add = [&](const char* verb, const char* help, Function function, bool takes_name) {
    auto* command = volume->add_subcommand(verb, help);
    if (takes_name)
      command->add_option("NAME", arguments.volume.name, "name of the volume")->required();
    command->add_option("--config", arguments.volume.config_path, "configuration file (TOML)");
    command->add_option("--path", arguments.volume.path,
                        "file of the volume, if not the configured one");
    command->add_flag("--json", arguments.volume.as_json, "as JSON");
    command->callback([&arguments, function] {
      arguments.chosen = [&arguments, function] {
        return function(arguments.home, arguments.volume);
      };
    });
    return command;
  };
  add("create", "make an empty volume", VolumeCreate, true)
      ->add_option("--size", arguments.volume.size, "such as 8G; at least 64M");
  add("list", "the configured volumes", VolumeList, false);
  add("show", "one volume: what its engine says when it is served, else its file", VolumeShow,
      true);
  auto* check =
      add("check", "verify every structure of a volume that is not in use", VolumeCheck, true);
  check->add_flag("--data", arguments.volume.verify_data,
                  "also read all data and verify its checksums");
  auto* repair = check->add_flag("--repair", arguments.volume.must_repair,
                                 "mend what can be mended, list the files that lost something");
  check->add_flag("--dry-run", arguments.volume.is_dry_run, "only say what --repair would do")
      ->needs(repair);
  check->add_flag("--yes", arguments.volume.is_confirmed, "--repair may change the volume")
      ->needs(repair);
  auto* scrub = add("scrub", "have the engine verify everything while it serves", nullptr, true);
  scrub->add_option("--rate", arguments.scrub.rate, "bytes per second at most, such as 64M");
  auto* background = scrub->add_flag("--background", arguments.scrub.is_background,
                                     "start it, and do not wait for its end");
  auto* status = scrub->add_flag("--status", arguments.scrub.is_status, "how far it is");
  scrub->add_flag("--stop", arguments.scrub.is_stopping, "stop it")
      ->excludes(status)
      ->excludes(background);
  background->excludes(status);
  scrub->callback([&arguments] {
    arguments.chosen = [&arguments] {
      arguments.scrub.volume = arguments.volume;
      return VolumeScrub(arguments.home, arguments.scrub);
    };
  });
  add("grow", "make a volume larger, also while it is served", VolumeGrow, true)
      ->add_option("SIZE", arguments.volume.size, "its new size, such as 16G")
      ->required();
}

using FilesetFunction = int (*)(const Home&, const std::string&, const FilesetOptions&);

CLI::App* AddFilesetVerb(CLI::App& noun, Arguments& arguments, FilesetFunction function,
                         const std::string& verb, const char* help) {
  auto* command = noun.add_subcommand(verb, help);
  command->add_flag("--json", arguments.fileset.as_json, "as JSON");
  command->callback([&arguments, function, verb] {
    arguments.chosen = [&arguments, function, verb] {
      return function(arguments.home, verb, arguments.fileset);
    };
  });
  return command;
}

void AddFileset(CLI::App& app, Arguments& arguments) {
  auto& options = arguments.fileset;
  auto* noun = app.add_subcommand("fileset", "filesets of the running filer's volume");
  noun->require_subcommand(1);
  const auto add = [&](const std::string& verb, const char* help) {
    auto* command = AddFilesetVerb(*noun, arguments, Fileset, verb, help);
    if (verb != "list") command->add_option("NAME", options.name, "the fileset")->required();
    return command;
  };
  add("list", "what there is");
  add("create", "an empty one");
  add("rename", "give it another name")->add_option("NEW", options.new_name)->required();
  add("delete", "with all that is in it; its snapshots go first")
      ->add_flag("--yes", options.is_agreed, "its data are to be lost");
}

void AddSnapshot(CLI::App& app, Arguments& arguments) {
  auto& options = arguments.fileset;
  auto* noun = app.add_subcommand("snapshot", "snapshots of the running filer's filesets");
  noun->require_subcommand(1);
  const auto add = [&](const std::string& verb, const char* help) {
    auto* command = AddFilesetVerb(*noun, arguments, Snapshot, verb, help);
    if (verb != "list") command->add_option("NAME", options.name, "the snapshot")->required();
    command->add_option("--fileset", options.fileset, "not the volume's first one");
    return command;
  };
  add("list", "what there is, and what deleting it would free");
  add("create", "the fileset as it is now; clients see it below .snapshot/NAME");
  add("delete", "give its space back");
  add("rename", "give it another name")->add_option("NEW", options.new_name)->required();
  add("hold", "refuse to delete it until it is released");
  add("release", "take one hold away");
  auto* rollback = add("rollback", "make the fileset what it was then");
  rollback->add_flag("--yes", options.is_agreed, "what was written since is to be lost");
  rollback->add_flag("--delete-newer", options.must_delete_newer,
                     "also the snapshots that are newer");
  add("clone", "a writable fileset with its content")
      ->add_option("NEW", options.new_name, "the new fileset")
      ->required();
}

void AddQuota(CLI::App& app, Arguments& arguments) {
  auto& options = arguments.quota;
  auto* noun = app.add_subcommand("quota", "limits of users, groups and projects");
  noun->require_subcommand(1);
  const auto add = [&](const std::string& verb, const char* help) {
    auto* command = noun->add_subcommand(verb, help);
    auto* kind = verb == "list" ? command->add_option("--kind", options.kind, "one kind only")
                                : command->add_option("KIND", options.kind)->required();
    kind->check(CLI::IsMember({"user", "group", "project"}));
    if (verb == "show" || verb == "set") {
      command->add_option("ID", options.id, "its number")->required();
    }
    command->add_option("--fileset", options.fileset, "not the volume's first one");
    command->add_flag("--json", options.as_json, "as JSON");
    command->callback([&arguments, verb] {
      arguments.chosen = [&arguments, verb] {
        return Quota(arguments.home, verb, arguments.quota);
      };
    });
    return command;
  };
  add("list", "who uses what, and may");
  add("show", "one of them");
  auto* set = add("set", "give or take limits; 0 takes one away");
  set->add_option("--bytes-soft", options.bytes_soft, "such as 8G, for a grace time");
  set->add_option("--bytes-hard", options.bytes_hard, "such as 10G, at most");
  set->add_option("--inodes-soft", options.inodes_soft, "files, for a grace time");
  set->add_option("--inodes-hard", options.inodes_hard, "files, at most");
  auto* grace = add("grace", "how long soft limits may be exceeded");
  grace->add_option("--bytes", options.bytes_seconds, "seconds");
  grace->add_option("--inodes", options.inodes_seconds, "seconds");
}

void AddTop(CLI::App& app, Arguments& arguments) {
  auto* top = app.add_subcommand("top", "what the bridge does now, once per second");
  top->add_flag("--once", arguments.top.is_once, "one second, then end");
  top->add_flag("--json", arguments.top.as_json, "one second as JSON, schema filer.top/1");
  top->callback([&] { arguments.chosen = [&] { return Top(arguments.home, arguments.top); }; });
}

void AddBridge(CLI::App& app, Arguments& arguments) {
  auto* bridge = app.add_subcommand("bridge", "the bridge daemon");
  bridge->require_subcommand(1);
  auto* upgrade = bridge->add_subcommand(
      "upgrade", "replace the running daemon by what is installed now; its clients wait");
  upgrade->add_option("--program", arguments.program, "another program, by its whole path");
  upgrade->add_flag("--json", arguments.as_json, "as JSON");
  upgrade->callback([&] {
    arguments.chosen = [&] {
      return BridgeUpgrade(arguments.home, arguments.program, arguments.as_json);
    };
  });
}

// The first word, when it is not a command; empty otherwise.
std::string UnknownCommand(const CLI::App& app, int count, char** words) {
  for (int index = 1; index < count; ++index) {
    const std::string word = words[index];
    if (word == "--home") {
      ++index;  // its value
    } else if (!word.starts_with('-')) {
      const auto commands = app.get_subcommands(
          [&word](const CLI::App* command) { return command->get_name() == word; });
      return commands.empty() ? word : "";
    }
  }
  return "";
}

int Run(int count, char** words) {
  CLI::App app("Nearmetal: an NFS and SMB filer in a guest, over a polled bridge", "filer");
  app.require_subcommand(1);
  app.fallthrough();  // --home may also stand behind the command
  app.set_version_flag("--version", FILER_VERSION);
  Arguments arguments;
  const char* from_environment = std::getenv("FILER_HOME");
  arguments.home.root = from_environment != nullptr ? from_environment : kDefaultHome;
  app.add_option("--home", arguments.home.root,
                 "state of this filer (default $FILER_HOME or /var/lib/nearmetal)");
  AddUpAndDown(app, arguments);
  AddVolume(app, arguments);
  AddBridge(app, arguments);
  AddTop(app, arguments);
  AddFileset(app, arguments);
  AddSnapshot(app, arguments);
  AddQuota(app, arguments);
  auto* test = app.add_subcommand("test", "run the tests");
  test->add_option("WHAT", arguments.test_what,
                   "unit, integration, tidy, sanitize, tsan, fuzz, all of these; on demand only: "
                   "long (soaks, "
                   "hours), libblkio (downloads a peer of the bridge)")
      ->check(CLI::IsMember(
          {"unit", "integration", "tidy", "sanitize", "tsan", "fuzz", "long", "libblkio", "all"}));
  test->callback([&] { arguments.chosen = [&] { return Test(arguments.test_what); }; });
  // All behind the word is for the program that knows it, --help and --home too.
  auto* bench = app.add_subcommand("bench", "measure: bench bridge|engine [--quick] [--json FILE]");
  bench->prefix_command();
  bench->set_help_flag();
  bench->fallthrough(false);
  bench->callback(
      [&arguments, bench] { arguments.chosen = [bench] { return Bench(bench->remaining()); }; });
  try {
    app.parse(count, words);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const std::string unknown = UnknownCommand(app, count, words);
    fmt::print(stderr, "filer: {} (filer --help lists the commands)\n",
               unknown.empty() ? error.what() : unknown + ": no such command");
    return kExitUsage;
  }
  auto home = HomeAt(arguments.home.root);
  if (!home) return Fail(home.error());
  arguments.home = std::move(home).value();
  try {
    return arguments.chosen();
  } catch (const Json::exception& exception) {
    // A guest, or a daemon of another version, may answer anything.
    return Fail(Error(
        Errc::kProtocol,
        std::string("an answer of the running filer has an unknown form: ") + exception.what()));
  }
}

}  // namespace
}  // namespace filer::command

int main(int count, char** words) {
  filer::InitLog("filer", "warn");
  return filer::command::Run(count, words);
}
