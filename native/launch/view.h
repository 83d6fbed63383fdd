/* See view.c. Returns NULL, or what failed (errno says why). */
#pragma once
const char *make_view(const char *const *paths, int count, const char *const *shares, int share_count);
