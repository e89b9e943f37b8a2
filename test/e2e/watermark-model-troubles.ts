/** What befalls the parts of the model, and what is written meanwhile. */
import type { Digest } from '../../src/oci/digest.ts'
import { envelopeOf } from './watermark-model-events.ts'
import type { Disk } from './watermark-model-log.ts'
import {
  APP,
  type Change,
  MOVED,
  newDigest,
  type Primary,
  REPOSITORIES,
  TAGS,
} from './watermark-model-primary.ts'
import type { Instance, Registry } from './watermark-model-registry.ts'
import type { Relay } from './watermark-model-relay.ts'
import type { Site } from './watermark-model-site.ts'
import type { Step, Write } from './watermark-model-steps.ts'
import type { VirtualTime } from './watermark-model-time.ts'

export interface TroublesDeps {
  readonly time: VirtualTime
  readonly primary: Primary
  readonly registry: Registry
  readonly relay: Relay
  readonly disk: Disk
  readonly siteAt: (which: number) => Site
  /** A digest that nothing had before. */
  readonly newImage: () => Digest
}

export interface Troubles {
  /** At its site, or else the instance. */
  write(what: Write, instance: Instance): void
  begin(step: Extract<Step, { do: 'trouble' }>): Promise<void>
}

export function createTroubles(deps: TroublesDeps): Troubles {
  const { time, primary, registry, relay, disk, siteAt, newImage } = deps

  function changeOf({ kind, name: at, tag: of, digest: which }: Write): Change | undefined {
    const name = REPOSITORIES[at % REPOSITORIES.length] ?? APP
    const tag = TAGS[of % TAGS.length] ?? time.pick(TAGS)
    const known = primary.known(name, which)
    const digest = which < 4 && known ? known : newImage()
    switch (kind) {
      case 'push':
        return { kind, name, tag, digest }
      case 'delete-tag':
        return { kind, name, tag }
      case 'delete-digest':
        return known ? { kind, name, digest: known } : undefined
      case 'push-untagged':
        return { kind, name, digest }
      case 'delete-repository':
        return { kind, name }
      case 'rename':
        return TAGS.some((each) => primary.read(APP, each))
          ? { kind, name: APP, to: MOVED }
          : { kind, name: MOVED, to: APP }
    }
  }

  function write(what: Write, instance: Instance): void {
    const { via } = what
    const change = changeOf(what)
    if (!change) return
    // Those two are said by GitLab itself.
    const isClients = change.kind !== 'rename' && change.kind !== 'delete-repository'
    if (via === undefined || !isClients) registry.write(instance, change)
    else time.go(() => siteAt(via).write(change))
  }

  function stranger(): void {
    const text = { id: `stranger-${time.chance()}`, instanceId: 'stranger', userAgent: 'curl', timestamp: '' }
    const change = { kind: 'push', name: APP, tag: time.pick(TAGS), digest: newDigest(-1) } as const
    relay.post(envelopeOf(change, text), () => undefined)
  }

  /** Of each trouble, what begins it, and what ends it. */
  async function trouble({ what, which, forMs, writes }: Extract<Step, { do: 'trouble' }>): Promise<void> {
    const instance = registry.at(which)
    const site = siteAt(which)
    const line = (state: typeof instance.line) => {
      instance.line = state
      return () => {
        instance.line = instance.usualLine
      }
    }
    const isDeadly = what === 'crash' || what === 'vanish'
    const isLasting = what === 'join' || what === 'leave'
    for (const each of writes) {
      if (isDeadly) write(each, instance)
      else
        time.later(time.between(0, isLasting ? forMs : Math.min(forMs, 2_000)), () => write(each, instance))
    }
    if (isDeadly && writes.length > 0) await time.pass(time.between(0, 600))
    const end = await begin()
    const lastsMs = what === 'site-line-repeating' ? 5 * forMs : forMs
    time.later(lastsMs, () => time.go(async () => void (await end?.())))

    async function begin(): Promise<(() => unknown) | undefined> {
      switch (what) {
        case 'events-down':
          return line('down')
        case 'events-deaf':
          return line('deaf')
        case 'events-flaky':
          return line('flaky')
        case 'events-slow':
          return line(time.pick([300, 1_000, 3_000, 8_000]))
        case 'canaries-slow':
          instance.canaryDelayMs = time.between(5, 2_500)
          return () => {
            instance.canaryDelayMs = 5
          }
        case 'crash':
          registry.crash(instance)
          return () => instance.isNamed && registry.start(instance)
        case 'vanish':
          return void registry.vanish(instance)
        case 'join':
          return void registry.join(instance)
        case 'leave':
          return void registry.leave(instance)
        case 'names-away':
          return void relay.loseNamesFor(forMs)
        case 'relay-crash':
          await relay.crash()
          return relay.start
        case 'relay-still':
          return void relay.pause(forMs)
        case 'relay-fails':
          return void relay.failFor(forMs)
        case 'relay-disk-slow':
          disk.delayMs = time.between(1, 300)
          return () => {
            disk.delayMs = 0
          }
        case 'relay-disk-full':
          disk.isFailing = true
          return () => {
            disk.isFailing = false
          }
        case 'relay-log-lost':
          await relay.crash()
          await disk.lose()
          registry.loseTold()
          return relay.start
        case 'stranger':
          return void stranger()
        case 'site-crash':
        case 'site-forgets':
          site.crash(what === 'site-forgets')
          return site.start
        case 'site-still':
          return void site.pause(forMs)
        case 'site-database-away':
          site.isDatabaseAway = true
          return () => {
            site.isDatabaseAway = false
          }
        case 'site-wall-clock':
          site.wallClockMs = time.between(-1e9, 1e9)
          return undefined
        case 'site-line-cut':
          site.line.isCut = true
          return () => {
            site.line.isCut = false
          }
        case 'site-line-slow':
          site.line.delayMs = time.pick([1_000, 4_000, 15_000])
          return () => {
            site.line.delayMs = 50
          }
        case 'site-line-losing':
          site.line.losing = time.between(0.1, 0.6)
          return () => {
            site.line.losing = 0
          }
        case 'site-line-repeating':
          site.line.repeating = time.between(0.1, 0.6)
          return () => {
            site.line.repeating = 0
          }
      }
    }
  }

  return { write, begin: trouble }
}
