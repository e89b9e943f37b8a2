/** One soak: clients at both sites and at the primary, storms over them, and the quiet end with its checks. */
import { setTimeout as delay } from 'node:timers/promises'
import { createChance } from '../support/chance.ts'
import { buildImage as buildImageOf, buildMultiArch } from '../support/images.ts'
import { createCatalogue } from './catalogue.ts'
import { type Client, createClient } from './client.ts'
import { createDisturbances, type Place } from './disturbances.ts'
import { createDoor, type Door } from './doors.ts'
import { endsOurs, storms } from './faults.ts'
import { type Bounds, judgeFlatness } from './flatness.ts'
import { createModel } from './model.ts'
import { type Shape, TAGS, turns } from './operations.ts'
import { createPlayer } from './player.ts'
import { startSampling } from './sampling.ts'
import { audit, inStep, soundStores } from './settle.ts'
import type { Story } from './story.ts'
import { startWitness } from './witness.ts'
import { RULES, type World } from './world.ts'

export interface RunOptions {
  readonly seed: number
  /** How long clients work. */
  readonly workMs: number
  /** What the start and the quiet end may take beside it: a machine that is slow to start works for less. */
  readonly besideMs: number
  readonly story: Story
  /** Milliseconds since the start. */
  readonly now: () => number
  readonly print: (line: string) => void
}

/** Clients of each kind, and how long one thinks on average. */
const CREW: readonly { readonly place: Place; readonly kind: 'reader' | 'writer'; readonly count: number }[] =
  [
    { place: 'tokyo', kind: 'reader', count: 4 },
    { place: 'tokyo', kind: 'writer', count: 2 },
    { place: 'lima', kind: 'reader', count: 4 },
    { place: 'lima', kind: 'writer', count: 2 },
    { place: 'primary', kind: 'writer', count: 1 },
  ]
const PAUSE_MS = { reader: 60, writer: 150 }
const CALM_FIRST_MS = 6_000
/** No storm begins that would leave less calm than this before the end. */
const STORM_NEEDS_MS = 14_000
/** In the last part no process of ours is ended, so that what grows has the time to. */
const LIVING_PART = 1 / 3
/** What a site may take to find its primary, its Redis and itself again. */
const GRACE_MS = 5_000
/** What audit, stores and copies take where all is well. */
const QUIET_END_MS = 30_000
const LEAST_WORK_MS = 20_000
const PROGRESS_MS = 10_000
const FORGET_MS = 10_000
const AUDIT_MS = 30_000
/** What an event announced and the primary does not show is waited for until it is a minute old. */
const IN_STEP_MS = 150_000
/** A soak shorter than this only says whether the copies are in step yet: it has no time to wait for it. */
const WAITS_FOR_COPY_MS = 120_000

const MIB = 1024 * 1024
const PRODUCT: Bounds = {
  warmUpMs: 15_000,
  growthBytes: 96 * MIB,
  residentBytes: 320 * MIB,
  openFiles: 80,
  openBlobs: 280,
}
/** Of what is not ours, only connections that our processes left behind. */
const OTHERS: Bounds = {
  ...PRODUCT,
  growthBytes: Number.POSITIVE_INFINITY,
  residentBytes: Number.POSITIVE_INFINITY,
}
const BOUNDS: Readonly<Record<string, Bounds>> = {
  tokyo: PRODUCT,
  'lima a': PRODUCT,
  'lima b': PRODUCT,
  replicator: PRODUCT,
  relay: PRODUCT,
  registry: OTHERS,
  Redis: OTHERS,
}

/** Throws what is wrong; resolves with lines that say what was found right. */
export async function runSoak(world: World, options: RunOptions): Promise<string[]> {
  const { seed, story, now, print } = options
  const workMs = Math.max(
    LEAST_WORK_MS,
    Math.min(options.workMs, options.workMs + options.besideMs - QUIET_END_MS - now()),
  )
  const disturbances = createDisturbances({ now, graceMs: GRACE_MS })
  const model = createModel({ rules: RULES, tags: TAGS, disturbances, now })
  const catalogue = createCatalogue()
  using sampling = startSampling(world, now)
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => undefined) // Raced below; by then it may have no reader left.
  const endsAtMs = now() + workMs
  const ending = new AbortController()
  const isOver = () => ending.signal.aborted || now() >= endsAtMs

  const doors = openDoors(world)
  await using witness = startWitness(
    doors.map(({ place, door: { name, puller } }) => ({ name, place, url: puller.url })),
    disturbances,
    now,
  )
  const clients: Promise<void>[] = []
  for (const { place, kind, count } of CREW) {
    for (let index = 1; index <= count; index++) clients.push(work(place, kind, `${place} ${kind} ${index}`))
  }

  async function work(place: Place, kind: 'reader' | 'writer', name: string): Promise<void> {
    let images = 0
    const client: Client = createClient({
      ...{ name, place, model, catalogue, now },
      buildImage: (shape) => buildShape(`${seed} ${name} ${++images}`, shape),
      onAnswer(line, reply) {
        story.say(line)
        story.count('answers', `${reply.status ?? 'broken off'} ${reply.source ?? ''}`.trim())
      },
    })
    const mine = doors.filter((door) => door.place === place)
    for (const { operation, pauseMs, door } of turns(chanceOf(seed, name), kind, PAUSE_MS[kind])) {
      await delay(pauseMs)
      const through = mine[Math.floor(door * mine.length)]?.door
      if (isOver() || !through) return
      story.count('operations', operation.do)
      await client.take(operation, through)
    }
  }

  async function troubles(): Promise<void> {
    const player = createPlayer(world, disturbances, story)
    await delay(CALM_FIRST_MS)
    for (const storm of storms(chanceOf(seed, 'storms'))) {
      if (isOver() || endsAtMs - now() < STORM_NEEDS_MS) return
      const isLiving = endsAtMs - now() < workMs * LIVING_PART
      const faults = storm.faults.filter(({ fault }) => !(isLiving && endsOurs(fault)))
      await player.play({ ...storm, faults })
      story.say('--- calm')
      await delay(storm.calmMs)
    }
  }

  using housekeeping = every(FORGET_MS, model.forget)
  using progress = every(PROGRESS_MS, () => {
    const going = disturbances.current().join(', ') || 'calm'
    print(
      `${seconds(now())}: ${story.total('operations')} operations, ${story.total('faults')} faults; ${going}`,
    )
  })
  const all = [...clients, troubles()]
  for (const one of all) one.catch(failed.reject)
  try {
    await Promise.race([Promise.all(all), failed.promise])
  } finally {
    ending.abort()
    await Promise.allSettled(all)
    progress[Symbol.dispose]()
    housekeeping[Symbol.dispose]()
  }

  story.say('--- the quiet end')
  const ways = doors.filter(({ place }) => place !== 'primary').map(({ door }) => door)
  const primary = doors.find(({ place }) => place === 'primary')?.door
  if (!primary) throw new Error('there is no door to the primary')
  const compared = await audit({ primary, doors: ways, catalogue, deadlineMs: AUDIT_MS })
  const sound = await soundStores(world)
  const copies = await Promise.all(Object.values(world.sites).map((site) => judgeCopy(site, workMs)))
  await witness[Symbol.asyncDispose]()
  for (const { door } of doors) await door[Symbol.asyncDispose]()
  const flat = await quietFlatness(sampling, now)
  if (flat.faults.length > 0) throw new Error([...flat.faults, ...flat.lines].join('\n'))
  return [
    `${compared} answers at the end are the primary’s; sound stores: ${sound}; ${copies.join('; ')}`,
    ...flat.lines,
    `the longest wait for an answer that costs nothing: ${Math.round(witness.longestMs)} ms`,
  ]
}

function openDoors({ sites, registry, key }: World): { readonly place: Place; readonly door: Door }[] {
  const ofSite = ({ name, doors }: World['sites']['tokyo']) =>
    doors.map((process, index) => ({
      place: name,
      door: createDoor(doors.length > 1 ? `${name} ${'ab'[index]}` : name, process.url, key),
    }))
  return [
    ...ofSite(sites.tokyo),
    ...ofSite(sites.lima),
    { place: 'primary', door: createDoor('primary', registry.url, key) },
  ]
}

async function judgeCopy(site: World['sites']['tokyo'], workMs: number): Promise<string> {
  if (workMs >= WAITS_FOR_COPY_MS) {
    await inStep(site, IN_STEP_MS)
    return `${site.name} is in step`
  }
  const { in_step } = await site.status()
  return `${site.name} is ${in_step ? '' : 'not yet '}in step`
}

/** Clients have left; what they had open is closed within seconds. */
async function quietFlatness(sampling: ReturnType<typeof startSampling>, now: () => number) {
  const deadlineMs = now() + 15_000
  for (;;) {
    const flat = judgeFlatness(sampling.samples, await sampling.now(), BOUNDS)
    if (flat.faults.length === 0 || now() > deadlineMs) return flat
    await delay(500)
  }
}

async function buildShape(seed: string, { layers, isIndex }: Shape) {
  return isIndex ? await buildMultiArch({ seed, layers }) : await buildImageOf({ seed, layers })
}

/** A source of its own for everybody, so that what one does leaves the others' decisions alone. */
function chanceOf(seed: number, name: string): () => number {
  let mixed = seed
  for (const letter of name) mixed = (Math.imul(mixed, 31) + letter.charCodeAt(0)) | 0
  return createChance(mixed)
}

function every(ms: number, what: () => void): Disposable {
  const timer = setInterval(what, ms)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

export function seconds(ms: number): string {
  const whole = Math.round(ms / 1000)
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}
