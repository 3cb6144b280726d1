# SPDX-License-Identifier: Apache-2.0
"""What the programs of scripts/test-programs share: where they run, what is counted, what is judged."""
