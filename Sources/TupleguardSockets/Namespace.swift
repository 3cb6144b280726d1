// SPDX-License-Identifier: Apache-2.0
// Where the types stand that a user of the library names.

/// Outgoing TCP and UDP connections that share source ports safely.
///
/// Everything that the library offers is in here, but for `ConnectError`, so that `import Connectx`
/// takes no name away from whoever imports it. (Within this package the types have short names as
/// well.)
public enum Connectx {}
