/** Law 2 under the watermark, against a simulated registry that loses, delays, repeats and dies at random. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  createSimulatedRegistry,
  type Line,
  type RegistryOptions,
  type SimulatedRegistry,
  StaleError,
} from './simulated-registry.ts'

type Step = (registry: SimulatedRegistry) => void

const LINES: readonly Line[] = ['up', 'down', 'deaf', 300, 700, 1_500, 2_500]

const which = fc.nat({ max: 2 })
const onInstance = (run: (registry: SimulatedRegistry, index: number) => void) =>
  which.map(
    (index): Step =>
      (registry) =>
        run(registry, index % registry.instances.length),
  )
const at = (registry: SimulatedRegistry, index: number) => {
  const instance = registry.instances[index]
  if (!instance) throw new Error(`no instance ${index}`)
  return instance
}

const passing = fc.integer({ min: 50, max: 3_000 }).map(
  (ms): Step =>
    (registry) =>
      registry.pass(ms),
)
const calm = fc.integer({ min: 6_500, max: 9_000 }).map(
  (ms): Step =>
    (registry) => {
      for (const instance of registry.instances) Object.assign(instance, { line: 'up', canaryDelayMs: 5 })
      registry.nameOnly(registry.instances)
      registry.pass(ms)
    },
)
const writing = fc.tuple(which, fc.integer({ min: 1, max: 60 })).map(
  ([index, count]): Step =>
    (registry) =>
      registry.write(at(registry, index % registry.instances.length), count),
)
/** Trouble of a line for a while, with writes in it. */
const trouble = fc
  .tuple(which, fc.constantFrom(...LINES), fc.integer({ min: 100, max: 7_000 }), fc.nat({ max: 3 }))
  .map(
    ([index, line, ms, count]): Step =>
      (registry) => {
        const instance = at(registry, index % registry.instances.length)
        instance.line = line
        registry.write(instance, count)
        registry.pass(ms)
        instance.line = 'up'
      },
  )
const slowCanaries = fc.tuple(which, fc.integer({ min: 5, max: 2_500 })).map(
  ([index, ms]): Step =>
    (registry) => {
      at(registry, index % registry.instances.length).canaryDelayMs = ms
    },
)
const still = fc.integer({ min: 100, max: 6_000 }).map(
  (ms): Step =>
    (registry) =>
      registry.standStillFor(ms),
)
const failing = fc.integer({ min: 50, max: 3_000 }).map(
  (ms): Step =>
    (registry) =>
      registry.failFor(ms),
)
/** Somebody who reads the registry's access log sends the newest canary again, and the next one before it is sent. */
const forged = onInstance((registry, index) => {
  const newest = registry.newestCanary() ?? 'geo-registry canary/1.1'
  const next = newest.replace(/\d+$/, (number) => String(Number(number) + 1))
  for (const userAgent of [newest, next]) registry.pull(at(registry, index), userAgent)
})
const restarted = onInstance((registry, index) => registry.restart(at(registry, index)))
const leaving = onInstance((registry, index) => {
  // What leaves writes no more: the assumption.
  registry.restart(at(registry, index))
  registry.nameOnly(registry.instances.filter((_, other) => other !== index))
})
const posted = fc.constantFrom('stranger-1', 'stranger-2').map(
  (id): Step =>
    (registry) =>
      registry.strangerPosts(id),
)
const unnamed = fc.constant<Step>((registry) => registry.loseNames())

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: passing },
    { weight: 6, arbitrary: calm },
    { weight: 6, arbitrary: writing },
    { weight: 6, arbitrary: trouble },
    { weight: 1, arbitrary: slowCanaries },
    { weight: 1, arbitrary: still },
    { weight: 1, arbitrary: failing },
    { weight: 1, arbitrary: forged },
    { weight: 1, arbitrary: restarted },
    { weight: 1, arbitrary: leaving },
    { weight: 1, arbitrary: posted },
    { weight: 1, arbitrary: unnamed },
  ),
  { minLength: 5, maxLength: 25 },
)

function run(taken: readonly Step[], instances: number, options: RegistryOptions): SimulatedRegistry['seen'] {
  const registry = createSimulatedRegistry(instances, options)
  registry.pass(7_000)
  for (const step of taken) step(registry)
  registry.pass(8_000)
  return registry.seen
}

const history = fc.tuple(steps, fc.integer({ min: 1, max: 3 }), fc.nat())

/** Whether the relay can be made to lie when an assumption does not hold. */
function findsALie(options: Omit<RegistryOptions, 'seed'>): boolean {
  const found = fc.check(
    fc.property(history, ([taken, instances, seed]) => {
      run(taken, instances, { ...options, seed })
    }),
    { numRuns: 2_000, endOnFailure: true, seed: 1 },
  )
  if (found.failed) expect(found.errorInstance).toBeInstanceOf(StaleError)
  return found.failed
}

describe('a watermark of the relay', () => {
  it('covers no write that is missing from the log, whatever is lost, delayed, repeated or restarted', () => {
    const sum = { watermarks: 0, covered: 0, lostBefore: 0, dropped: 0, givenUp: 0 }

    fc.assert(
      fc.property(history, ([taken, instances, seed]) => {
        const seen = run(taken, instances, { seed })
        for (const [name, value] of Object.entries(seen)) sum[name as keyof typeof sum] += value
      }),
      { numRuns: 1_000 },
    )

    // What it was held against did happen.
    for (const value of Object.values(sum)) expect(value).toBeGreaterThan(100)
  })

  it('needs each of its assumptions: a sender that gives up early makes it lie', () => {
    expect(findsALie({ givesUpMs: 1_000 })).toBe(true)
  })

  it('needs to be told no longer queue than the registry has', () => {
    expect(findsALie({ toldQueueSize: 3_000 })).toBe(true)
  })

  it('needs tags that are written soon after their event', () => {
    expect(findsALie({ tagDelayMs: 30_000 })).toBe(true)
  })

  it('needs every process to be named as long as it acknowledges writes', () => {
    const registry = createSimulatedRegistry(2, { seed: 1, writesUnnamed: true, tagDelayMs: 100 })
    const [named, unnamed] = [at(registry, 0), at(registry, 1)]
    registry.nameOnly([named])
    registry.pass(8_000)
    expect(registry.seen.watermarks).toBeGreaterThan(0)
    unnamed.line = 1_500
    registry.write(unnamed)

    expect(() => registry.pass(1_500)).toThrow(StaleError)
  })

  it.each([
    ['needs canaries that nobody can guess', () => 'guessed', StaleError],
    ['has canaries that nobody can guess', undefined, undefined],
  ])('%s', (_, random, lie) => {
    const registry = createSimulatedRegistry(1, { seed: 1, tagDelayMs: 100, ...(random && { random }) })
    const instance = at(registry, 0)
    registry.pass(8_150)
    expect(registry.seen.watermarks).toBeGreaterThan(0)
    instance.line = 400
    const next = registry.newestCanary()?.replace(/\d+$/, (number) => String(Number(number) + 1)) ?? ''
    for (const userAgent of ['docker/28', 'docker/28', next]) registry.pull(instance, userAgent)
    registry.write(instance)

    if (lie) expect(() => registry.pass(4_000)).toThrow(lie)
    else expect(() => registry.pass(4_000)).not.toThrow()
  })
})
