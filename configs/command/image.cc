#include "configs/command/image.h"

#include <filesystem>

#include "base/json_rpc.h"
#include "base/process.h"
#include "configs/command/console.h"

namespace filer::command {
namespace {

std::string LastLineOf(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

Result<ImageFolder> EnsureImage(const Installation& installation) {
  if (installation.source.empty()) {
    return Error(Errc::kNotFound,
                 "no guest image recipe (filer-guest/image); run ./filer from the source tree, or "
                 "`filer up --mode host`");
  }
  Step step("preparing the guest image");
  const std::string log = installation.cache + "/image-build.log";
  std::error_code error;
  std::filesystem::create_directories(installation.cache, error);
  const auto output = FILER_TRY(RunProgram(
      {installation.source + "/filer-guest/image/build-image", "--bin", installation.programs,
       "--ganesha", installation.ganesha, "--out", installation.cache + "/images"},
      log));
  const std::string last = LastLineOf(output.standard_output);
  if (output.exit_code != 0) {
    const auto text = ReadWholeFile(log);
    return Error(Errc::kSystem,
                 "building the guest image failed: " + (text ? LastLineOf(text.value()) : last) +
                     " (see " + log + ")");
  }
  const std::string manifest = FILER_TRY(ReadWholeFile(last + "/manifest.json"));
  const Json json = Json::parse(manifest, nullptr, false);
  if (!json.is_object() || !json.contains("version")) {
    return Error(Errc::kCorrupt,
                 last + "/manifest.json: not a manifest; remove the folder and try again");
  }
  ImageFolder image{.path = last, .version = json.value("version", "")};
  step.Done(image.version);
  return image;
}

}  // namespace filer::command
