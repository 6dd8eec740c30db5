#include "filer-guest/agent/version.h"

#include "fsal/engine/format/label.h"

namespace filer::agent {

Json VersionsJson() {
  return Json{{"version", kVersion},
              {"volume_format", engine::kFormatVersion},
              {"state_format", kStateFormat}};
}

}  // namespace filer::agent
