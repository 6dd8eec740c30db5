/* config_table.h: the NEARMETAL block of ganesha.conf and lines into Ganesha's log. In C, because
 * Ganesha's CONF_ITEM and Log macros are. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The strings belong to Ganesha's parser (heap) and live as long as the process. Optional ones are
 * NULL when absent. */
struct nearmetal_config {
  char* device;       /* vhost_user:PATH, pci:ADDRESS or file:PATH */
  uint32_t memory_mb; /* DMA memory of the engine */
  bool huge_pages;
  char* posix_door;    /* mount point, or NULL */
  char* status_socket; /* path, or NULL */
};

/* Reads the block from the parsed file `config_file` (a config_file_t). False: errors were noted in
 * `error_type`. */
bool nearmetal_read_config(void* config_file, struct nearmetal_config* config, void* error_type);
/* Checks the FSAL sub-block of an EXPORT (only `Name` is known there). */
bool nearmetal_check_export_block(void* parse_node, void* error_type);

enum nearmetal_log_level { NEARMETAL_DEBUG, NEARMETAL_INFO, NEARMETAL_WARN, NEARMETAL_ERROR };
void nearmetal_log(enum nearmetal_log_level level, const char* text);

#ifdef __cplusplus
}
#endif
