// SPDX-License-Identifier: Apache-2.0
/* What --help prints, of the program and of each mode. */
#ifndef STRESS_HELP_H
#define STRESS_HELP_H

extern const char general_help[], race_help[], chaos_help[], reuseport_help[], throng_help[],
    shared_help[], samesocket_help[], hostile_help[], outsiders_help[], rewriters_help[],
    connectx_help[], ports_help[], budget_help[];

#endif
