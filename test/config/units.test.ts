import { describe, expect, it } from 'vitest'
import {
  parseDurationMs,
  parsePercent,
  parseRateBytesPerSecond,
  parseSizeBytes,
} from '../../src/config/units.ts'

describe('units', () => {
  it.each([
    ['0', 0],
    ['0s', 0],
    ['900ms', 900],
    ['10s', 10_000],
    ['15m', 900_000],
    ['1h30m', 5_400_000],
    ['1.5h', 5_400_000],
    ['168h', 604_800_000],
    ['7d', 604_800_000],
  ])('reads the duration %s', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms)
  })

  it.each(['', '10', '10 s', '-1s', 's', '10S', '1e3s', '10sec', '1h 30m', '٣s', '99999999999999999d'])(
    'takes %j for no duration',
    (text) => {
      expect(parseDurationMs(text)).toBeUndefined()
    },
  )

  it.each([
    ['0', 0],
    ['1048576', 1_048_576],
    ['64MiB', 67_108_864],
    ['1.5GB', 1_500_000_000],
    ['10kB', 10_000],
  ])('reads the size %s', (text, bytes) => {
    expect(parseSizeBytes(text)).toBe(bytes)
  })

  it.each(['', 'MiB', '64 MiB', '64mib', '1Mb', '-1', '0x10', '1constructor', '99999999TiB'])(
    'takes %j for no size',
    (text) => {
      expect(parseSizeBytes(text)).toBeUndefined()
    },
  )

  it.each([
    ['200Mbit/s', 25_000_000],
    ['1Gbit/s', 125_000_000],
    ['16MiB/s', 16_777_216],
  ])('reads the rate %s', (text, bytes) => {
    expect(parseRateBytesPerSecond(text)).toBe(bytes)
  })

  it.each(['200Mbit', '200', '/s', '200Mbps', '1MiB/h'])('takes %j for no rate', (text) => {
    expect(parseRateBytesPerSecond(text)).toBeUndefined()
  })

  it.each([
    ['5%', 0.05],
    ['0%', 0],
    ['0.5%', 0.005],
    ['100%', 1],
  ])('reads the percentage %s', (text, fraction) => {
    expect(parsePercent(text)).toBeCloseTo(fraction, 10)
  })

  it.each(['5', '101%', '-5%', '%', '5 %'])('takes %j for no percentage', (text) => {
    expect(parsePercent(text)).toBeUndefined()
  })
})
