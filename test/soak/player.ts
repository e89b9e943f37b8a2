/** Does to the world what the schedule says, and writes down whom each fault can trouble for as long as it lasts. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Link } from '../support/link.ts'
import type { Disturbance, Disturbances } from './disturbances.ts'
import { type Fault, faultText, type LinkName, type ProcessName, type Storm } from './faults.ts'
import type { Story } from './story.ts'
import type { World } from './world.ts'

export interface Player {
  /** Resolves when every fault of the storm is over and everything runs again. */
  play(storm: Storm): Promise<void>
}

/** A fault that waits for bytes is given up when they do not come. */
const STRIKES_WITHIN_MS = 4_000
const EVERY_MS = 50
/** `slow`: a bad line, not a dead one. */
const SLOW = { latencyMs: 120, bytesPerSecond: 400_000 }

export function createPlayer(world: World, disturbances: Disturbances, story: Story): Player {
  const { links, registry, redis, processes } = world

  async function onLink(link: Link, { how, forMs, bytes }: Extract<Fault, { on: 'link' }>): Promise<void> {
    switch (how) {
      case 'cut':
        return link.cut()
      case 'cut after':
        return await strike(
          link,
          () => link.cutAfter(bytes),
          () => link.cutAfter(Number.POSITIVE_INFINITY),
          bytes,
        )
      case 'corrupt':
        return await strike(
          link,
          () => link.corrupt(bytes),
          () => link.corrupt(Number.POSITIVE_INFINITY),
          bytes,
        )
      case 'stall':
        link.stall()
        await delay(forMs)
        return link.resume()
      case 'black hole':
        link.blackhole()
        await delay(forMs)
        return link.resume()
      case 'slow':
        link.shape(SLOW)
        await delay(forMs)
        return link.shape({})
      case 'refuse':
        link.refuse()
        link.cut()
        await delay(forMs)
        return await link.accept()
    }
  }

  async function strike(link: Link, arm: () => void, disarm: () => void, bytes: number): Promise<void> {
    const struckAt = link.counts().down + bytes + 1
    arm()
    for (let waited = 0; waited < STRIKES_WITHIN_MS; waited += EVERY_MS) {
      if (link.counts().down >= struckAt) break
      await delay(EVERY_MS)
    }
    disarm()
  }

  async function onProcess({ target, how, forMs }: Extract<Fault, { on: 'process' }>): Promise<void> {
    const kit = target === 'Redis' ? redis : target === 'registry' ? registry : processes[target]
    if (how === 'empty') return void (await redis.command('FLUSHALL'))
    if (how === 'freeze') {
      const frozen = target === 'Redis' ? redis : registry
      frozen.freeze()
      await delay(forMs)
      return frozen.thaw()
    }
    await (how === 'kill' ? kit.kill() : kit.stop())
    await delay(forMs)
    await kit.start()
  }

  async function play(fault: Fault): Promise<void> {
    const over = disturbances.begin(disturbanceOf(fault))
    story.count('faults', `${fault.how} ${fault.on === 'link' ? 'line' : fault.target}`)
    story.say(`--- ${faultText(fault)}`)
    if (fault.on === 'link') await onLink(links[fault.target], fault)
    else await onProcess(fault)
    over()
    story.say(`--- over: ${faultText(fault)}`)
  }

  return {
    async play(storm) {
      const played = storm.faults.map(async ({ afterMs, fault }) => {
        await delay(afterMs)
        await play(fault)
      })
      const outcomes = await Promise.allSettled(played)
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    },
  }
}

const OF_LINKS: Readonly<Record<LinkName, Pick<Disturbance, 'places' | 'effect'>>> = {
  tokyo: { places: ['tokyo'], effect: 'away' },
  lima: { places: ['lima'], effect: 'away' },
  'tokyo’s relay': { places: [], effect: 'nothing' },
  'lima’s relay': { places: [], effect: 'nothing' },
}
const OF_PROCESSES: Readonly<Record<ProcessName, Pick<Disturbance, 'places' | 'effect'>>> = {
  tokyo: { places: ['tokyo'], effect: 'down' },
  'lima a': { places: ['lima'], effect: 'down' },
  'lima b': { places: ['lima'], effect: 'down' },
  replicator: { places: [], effect: 'nothing' },
  relay: { places: [], effect: 'nothing' },
  registry: { places: ['tokyo', 'lima', 'primary'], effect: 'away' },
  Redis: { places: ['lima'], effect: 'shared state' },
}

function disturbanceOf(fault: Fault): Disturbance {
  const about = fault.on === 'link' ? OF_LINKS[fault.target] : OF_PROCESSES[fault.target]
  return { what: faultText(fault), ...about }
}
