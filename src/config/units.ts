/**
 * The quantities a configuration is written in. Each parser answers undefined for anything it does not understand
 * whole, so that `10 s`, `5` or `1Gb` is reported and never guessed at.
 */
const DURATION_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const DURATION = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/
const DURATION_PART = /(\d+(?:\.\d+)?)(ms|s|m|h|d)/g

/** Go's notation, which Distribution's configuration uses, with days added: `900ms`, `10s`, `1h30m`, `7d`; `0`. */
export function parseDurationMs(text: string): number | undefined {
  if (text === '0') return 0
  if (!DURATION.test(text)) return undefined
  let totalMs = 0
  for (const [, amount, unit] of text.matchAll(DURATION_PART)) {
    totalMs += Number(amount) * DURATION_MS[unit as keyof typeof DURATION_MS]
  }
  return whole(totalMs)
}

const SIZE_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
}
const QUANTITY = /^(\d+(?:\.\d+)?)([A-Za-z]*)$/

/** `64MiB`, `1.5GB`; a bare whole number is bytes. Case counts: `Mb` would be a megabit. */
export function parseSizeBytes(text: string): number | undefined {
  if (/^\d+$/.test(text)) return whole(Number(text))
  return scaled(text, SIZE_BYTES)
}

const BIT_RATE_BYTES: Readonly<Record<string, number>> = {
  bit: 1 / 8,
  kbit: 1e3 / 8,
  Mbit: 1e6 / 8,
  Gbit: 1e9 / 8,
}

/** Bytes per second: `200Mbit/s`, `25MB/s`, `16MiB/s`. */
export function parseRateBytesPerSecond(text: string): number | undefined {
  if (!text.endsWith('/s')) return undefined
  return scaled(text.slice(0, -2), { ...SIZE_BYTES, ...BIT_RATE_BYTES })
}

/** `10/s`. */
export function parseRequestsPerSecond(text: string): number | undefined {
  const amount = /^(\d+(?:\.\d+)?)\/s$/.exec(text)?.[1]
  return amount === undefined ? undefined : Number(amount)
}

/** A fraction: `5%` is 0.05. From `0%` to `100%`. */
export function parsePercent(text: string): number | undefined {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text)?.[1]
  return percent === undefined || Number(percent) > 100 ? undefined : Number(percent) / 100
}

function scaled(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const [, amount, unit] = QUANTITY.exec(text) ?? []
  const scale = unit === undefined || !Object.hasOwn(units, unit) ? undefined : units[unit]
  return scale === undefined ? undefined : whole(Number(amount) * scale)
}

function whole(value: number): number | undefined {
  const rounded = Math.round(value)
  return Number.isSafeInteger(rounded) ? rounded : undefined
}
