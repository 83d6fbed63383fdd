// The import rules of DESIGN §2, checked by scripts/import-rules.mjs on the sources with their types stripped: what
// counts is what is loaded. `syscalls/main.ts` is the entry of the sentry process: it joins kernel and table.
const only = (from, ...to) => ({
  name: `${from}-imports`,
  severity: 'error',
  from: { path: `^${from}/` },
  to: { pathNot: [`^${from}/`, '^node_modules', ...to.map((p) => `^${p}`)], dependencyTypesNot: ['core', 'npm'] },
})
module.exports = {
  forbidden: [
    // Files of one folder may know each other (exit and signals do); folders may not.
    {
      name: 'no-circular-folders',
      severity: 'error',
      from: { path: '^([^/]+/[^/]+)/' },
      to: { circular: true, via: { pathNot: '^$1/' } },
    },
    only('native'),
    only('gofer', 'native/'),
    only('sentry', 'native/', 'gofer/(protocol|messages)'),
    only('syscalls', 'sentry/', 'native/'),
    // The monitor serves the control socket in a sentry's place.
    only('microvm', 'native/', 'gofer/protocol', 'sentry/control/', 'sentry/abi/', 'sentry/confine/(identity|filter|empty-root)'),
    only('runsc-cli', 'sentry/control/protocol', 'sentry/control/client', 'syscalls/table', 'native/'),
  ],
  options: { doNotFollow: { path: 'node_modules' }, enhancedResolveOptions: { extensions: ['.mjs'] } },
}
