/**
 * How the properties of this folder are run: bounded in number and in time, from a seed that each title names.
 * `HOSTILE_RUNS=20` runs twenty times as many, `HOSTILE_SEED` and `HOSTILE_PATH` play again what a failure printed.
 */
import fc from 'fast-check'

export const HOSTILE_SEED: number = Number(process.env['HOSTILE_SEED'] ?? Date.now() % 1_000_000_000)
const RUNS = Number(process.env['HOSTILE_RUNS'] ?? 1)
const PATH = process.env['HOSTILE_PATH']
/** A slow machine makes fewer runs, not a longer suite. */
const LIMIT_MS = 3000

/** For titles: what to say to get the same inputs again. */
export const SEEDED = `HOSTILE_SEED=${HOSTILE_SEED}`
/** For tests: vitest's own limit, above that of the property. */
export const HOSTILE_TIMEOUT_MS: number = 60_000 + LIMIT_MS * RUNS

type Property = Parameters<typeof fc.assert>[0]

/** Rejects with the counterexample, its seed and path. */
export async function holds(property: Property, { runs }: { readonly runs: number }): Promise<void> {
  await fc.assert(property, {
    seed: HOSTILE_SEED,
    numRuns: Math.ceil(runs * RUNS),
    interruptAfterTimeLimit: LIMIT_MS * RUNS,
    ...(PATH === undefined ? {} : { path: PATH, endOnFailure: true }),
  })
}

/** A text with one to three places of it replaced, doubled or cut out by pieces that parsers stumble over. */
export function mutated(
  texts: fc.Arbitrary<string>,
  pieces: readonly string[] = PIECES,
): fc.Arbitrary<string> {
  const change = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    drop: fc.nat(3),
    piece: fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: LATIN, maxLength: 3 })),
  })
  return fc
    .tuple(texts, fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([text, changes]) => changes.reduce(applied, text))
}

function applied(text: string, { at, drop, piece }: { at: number; drop: number; piece: string }): string {
  const start = Math.floor(at * (text.length + 1))
  return text.slice(0, start) + piece + text.slice(start + drop)
}

/** Every character that one byte can be, but the two that end a line of HTTP. */
export const LATIN: fc.Arbitrary<string> = fc
  .nat(255)
  .map((code) => String.fromCharCode(code))
  .filter((character) => character !== '\r' && character !== '\n')

export const PIECES: readonly string[] = [
  ...['..', '../', '/', '//', '%2f', '%2F', '%2e', '%252e%252e%252f', '%00', '%0d%0a', '%c0%ae', '%', '\\'],
  ...['\0', '\t', ' ', '?', '#', '&', '=', ':', '@', '+', '*', '_', '-', '~', ';', ',', '"', "'", '<', '>'],
  ...['A', '\xe9', '\xff', '9'.repeat(30), 'a'.repeat(300), '__proto__', 'constructor', 'null', '-1', '1e9'],
]

/** JSON of every shape, with the keys that matter to a parser mixed in. */
export function jsonWith(keys: readonly string[], values: readonly unknown[]): fc.Arbitrary<unknown> {
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4, depthIdentifier: 'hostile-json', withCrossShrink: true },
      fc.constantFrom(...values, null, true, 0, -1, 1.5, 1e308, 2 ** 53, '', '\u0000', '__proto__'),
      fc.jsonValue({ maxDepth: 1 }),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc
        .array(fc.tuple(fc.constantFrom(...keys, '__proto__', 'constructor', 'toString'), tie('tree')), {
          maxLength: 6,
        })
        .map((entries) => Object.fromEntries(entries)),
    ),
  }))
  return tree
}

/** Brackets nested deeper than any stack. */
export function deeplyNested(depth: number): string {
  return `${'['.repeat(depth)}${']'.repeat(depth)}`
}
