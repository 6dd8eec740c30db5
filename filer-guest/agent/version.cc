#include "filer-guest/agent/version.h"

namespace filer::agent {

Json VersionsJson() { return Json{{"version", kVersion}, {"state_format", kStateFormat}}; }

}  // namespace filer::agent
