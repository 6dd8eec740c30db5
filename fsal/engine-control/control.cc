#include "fsal/engine-control/control.h"

namespace filer::control {
namespace {

// Few ask, and each comes and goes.
constexpr RpcLimits kLimits{.connection_count_max = 64,
                            .waiting_threads = 4,
                            .waiting_calls_max = 16,
                            .idle_max = std::chrono::seconds(60),
                            .write_max = std::chrono::seconds(10)};

Result<engine::Engine*> EngineOf(const ControlTarget& target) {
  engine::Engine* engine = target.engine();
  if (engine != nullptr) return engine;
  const std::string why = target.why_none ? target.why_none() : "";
  return Error(Errc::kNotRunning,
               why.empty() ? "no volume is mounted" : "no volume is mounted: " + why);
}

Json Describe(const std::vector<ControlMethod>& table) {
  Json methods = Json::array();
  for (const ControlMethod& method : table) {
    Json params = Json::array();
    for (const ParamSpec& spec : method.params) params.push_back(ToJson(spec));
    methods.push_back({{"name", method.name}, {"params", std::move(params)}});
  }
  return {{"methods", std::move(methods)}};
}

}  // namespace

RpcMethods BindMethods(const std::vector<ControlMethod>& table, const ControlTarget& target) {
  RpcMethods methods;
  for (const ControlMethod& method : table) {
    RpcMethod bound([method, target](const Json& json) -> Result<Json> {
      const Params params = FILER_TRY(Params::Check(method.name, method.params, json));
      return method.run(*FILER_TRY(EngineOf(target)), params);
    });
    bound.may_wait = method.may_wait;
    methods[method.name] = std::move(bound);
  }
  methods["methods"] = [answer = Describe(table)](const Json&) -> Result<Json> { return answer; };
  return methods;
}

Result<std::unique_ptr<ControlServer>> ControlServer::Listen(const std::string& socket_path,
                                                             ControlTarget target, RpcMethods own) {
  RpcMethods methods = std::move(own);
  methods.merge(BindMethods(EngineMethods(), target));
  auto server = FILER_TRY(RpcServer::Listen(socket_path, std::move(methods), kLimits));
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(server)));
}

ControlServer::ControlServer(std::unique_ptr<RpcServer> server) : server_(std::move(server)) {}

ControlServer::~ControlServer() = default;

}  // namespace filer::control
