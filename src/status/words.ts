/** Numbers as a person reads them: counts, sizes, durations. English, whatever the machine's locale. */

const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `1,234 tags`, `1 tag`. */
export function formatCount(count: number, singular: string, plural = `${singular}s`): string {
  return `${formatNumber(count)} ${count === 1 ? singular : plural}`
}

export function formatNumber(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 1 })
}

/** `512 B`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < SIZES.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${SIZES[unit]}`
}

/** In its two largest units: `0 s`, `345 ms`, `45 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`. */
export function formatDuration(durationMs: number): string {
  if (durationMs > 0 && durationMs < 1000) return `${Math.round(durationMs)} ms`
  const seconds = Math.max(0, Math.round(durationMs / 1000))
  const units = [
    { size: 86_400, name: 'd' },
    { size: 3_600, name: 'h' },
    { size: 60, name: 'min' },
    { size: 1, name: 's' },
  ]
  const first = units.findIndex(({ size }) => seconds >= size)
  if (first === -1) return '0 s'
  const [large, small] = units.slice(first, first + 2)
  if (!large) return '0 s'
  const whole = `${Math.floor(seconds / large.size)} ${large.name}`
  const rest = small ? Math.floor((seconds % large.size) / small.size) : 0
  return small && rest > 0 ? `${whole} ${rest} ${small.name}` : whole
}

/** `bytesHere` → `bytes here`. */
export function inWords(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
}
