/* config_table.c: see config_table.h. */
#include "fsal/ganesha/config_table.h"

#include "config.h"
#include "config_parsing.h"
#include "fsal.h"
#include "gsh_config.h"
#include "log.h"
#include "nfs_core.h"

static struct config_item nearmetal_items[] = {
    CONF_ITEM_STR("Device", 1, MAXPATHLEN, NULL, nearmetal_config, device),
    CONF_ITEM_UI32("Memory_MB", 64, 1024 * 1024, 512, nearmetal_config, memory_mb),
    CONF_ITEM_BOOL("Huge_Pages", false, nearmetal_config, huge_pages),
    CONF_ITEM_PATH("Posix_Door", 1, MAXPATHLEN, NULL, nearmetal_config, posix_door),
    CONF_ITEM_PATH("Status_Socket", 1, 107, NULL, nearmetal_config, status_socket), /* sun_path */
    CONFIG_EOL};

static struct config_block nearmetal_block = {
    .dbus_interface_name = "org.ganesha.nfsd.config.fsal.nearmetal",
    .blk_desc.name = "NEARMETAL",
    .blk_desc.type = CONFIG_BLOCK,
    .blk_desc.flags = CONFIG_UNIQUE,
    .blk_desc.u.blk.init = noop_conf_init,
    .blk_desc.u.blk.params = nearmetal_items,
    .blk_desc.u.blk.commit = noop_conf_commit};

bool nearmetal_read_config(void* config_file, struct nearmetal_config* config, void* error_type) {
  struct config_error_type* errors = error_type;
  memset(config, 0, sizeof(*config));
  (void)load_config_from_parse(config_file, &nearmetal_block, config, true, errors);
  return config_error_is_harmless(errors);
}

struct nearmetal_export_block {
  uint32_t unused;
};

static struct config_item nearmetal_export_items[] = {CONF_ITEM_NOOP("Name"), CONFIG_EOL};

static struct config_block nearmetal_export_block = {
    .dbus_interface_name = "org.ganesha.nfsd.config.fsal.nearmetal-export%d",
    .blk_desc.name = "FSAL",
    .blk_desc.type = CONFIG_BLOCK,
    .blk_desc.u.blk.init = noop_conf_init,
    .blk_desc.u.blk.params = nearmetal_export_items,
    .blk_desc.u.blk.commit = noop_conf_commit};

bool nearmetal_check_export_block(void* parse_node, void* error_type) {
  struct nearmetal_export_block block = {0};
  return load_config_from_node(parse_node, &nearmetal_export_block, &block, true, error_type) == 0;
}

void nearmetal_log(enum nearmetal_log_level level, const char* text) {
  switch (level) {
    case NEARMETAL_DEBUG:
      LogDebug(COMPONENT_FSAL, "%s", text);
      break;
    case NEARMETAL_INFO:
      LogEvent(COMPONENT_FSAL, "%s", text);
      break;
    case NEARMETAL_WARN:
      LogWarn(COMPONENT_FSAL, "%s", text);
      break;
    case NEARMETAL_ERROR:
      LogCrit(COMPONENT_FSAL, "%s", text);
      break;
  }
}
