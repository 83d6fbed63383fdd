// The import rules of DESIGN §2. `syscalls/main.ts` is the entry of the sentry process: it joins kernel and table.
const only = (from, ...to) => ({
  name: `${from}-imports`,
  severity: 'error',
  from: { path: `^${from}/` },
  to: { pathNot: [`^${from}/`, '^node_modules', ...to.map((p) => `^${p}`)], dependencyTypesNot: ['core', 'npm'] },
})
module.exports = {
  forbidden: [
    { name: 'no-circular-folders', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'], viaOnly: { dependencyTypesNot: ['type-only'] } } },
    only('native'),
    only('gofer', 'native/'),
    only('sentry', 'native/', 'gofer/protocol'),
    only('syscalls', 'sentry/', 'native/'),
    only('runsc-cli', 'sentry/control/protocol', 'sentry/control/client', 'syscalls/table', 'native/'),
  ],
  options: { tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' }, enhancedResolveOptions: { extensions: ['.ts'] } },
}
