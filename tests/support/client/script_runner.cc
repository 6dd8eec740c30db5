#include "tests/support/client/script_runner.h"

#include <unistd.h>

#include "base/file.h"

namespace filer::test {
namespace {

constexpr const char* kChild = "script";

}  // namespace

Result<Json> ScriptRunner::Run(const Json& params) {
  const auto script = params.find("script");
  if (script == params.end() || !script->is_string()) {
    return Error(Errc::kInvalidArgument, "run: script is missing");
  }
  const std::string text = script->get<std::string>();
  if (text.size() > kScriptBytesMax) return Error(Errc::kTooBig, "run: script too long");
  const auto running = children_.Find(kChild);
  if (running && running->is_running) return Error(Errc::kBusy, "run: a script runs already");
  FILER_TRY(WriteFileAtomically(folder_ + "/script", text, 0700));
  ::unlink((folder_ + "/output").c_str());
  agent::ChildSpec spec;
  spec.name = kChild;
  spec.arguments = {"/bin/bash", folder_ + "/script"};
  spec.log_path = folder_ + "/output";
  FILER_TRY(children_.Start(spec));
  return Json{{"started", true}};
}

Result<Json> ScriptRunner::Outcome() {
  const auto child = children_.Find(kChild);
  if (!child) return Error(Errc::kNotFound, "no script was run");
  return Json{{"done", !child->is_running},
              {"exit", child->ending},
              {"output", agent::FileTail(child->log_path, kOutputBytesMax)}};
}

Result<Json> ScriptRunner::Kill() {
  children_.Stop(kChild, std::chrono::milliseconds(500));
  return Json::object();
}

}  // namespace filer::test
