// Knip preprocessor: constants that Linux defines as a family (CAP_*, RLIMIT_*) are exported whole, used or not; a
// function, class or variable that nobody imports still counts.
// biome-ignore lint/style/noDefaultExport: knip takes the default export
export default function dropConstants(options) {
  for (const [file, exports] of Object.entries(options.issues.exports)) {
    for (const name of Object.keys(exports)) {
      if (!/^[A-Z][A-Z0-9_]*$/.test(name)) continue
      delete options.issues.exports[file][name]
      options.counters.exports--
    }
  }
  return options
}
