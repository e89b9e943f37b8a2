/** A client that pulls tags through the site the whole time, and holds every answer against what the primary can have had. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Run } from './replication-model-run.ts'
import { TAGS } from './replication-model-steps.ts'
import type { Clients, World } from './replication-model-world.ts'

export interface Reader extends AsyncDisposable {
  /** Throws what was wrong with an answer since the last time. */
  check(): void
}

/** Between two pulls: the machine is for the jobs. */
const PAUSE_MS = 4

/** `tally` counts where answers came from. */
export function startReader(
  world: World,
  { names, reader }: Clients,
  run: Run,
  tally: Map<string, number>,
): Reader {
  let ended = false
  let wrong: Error | undefined

  async function pull(name: string, tag: string): Promise<void> {
    const start = world.tick()
    const answer = await reader.getManifest(name, tag).catch(() => undefined)
    const span = { start, end: world.tick() }
    const source = answer?.headers['geo-registry-source']
    const outcome = answer ? `${answer.status} ${source}` : 'broken off'
    tally.set(outcome, (tally.get(outcome) ?? 0) + 1)
    if (!answer) {
      if (!world.wasDown(span)) throw new Error('a pull was broken off although the site was there')
      return
    }
    const { status, headers, digest } = answer
    if ((source === 'stale') !== (headers['warning'] !== undefined)) throw new Error('stale without Warning')
    if (source === 'stale' || status >= 500) return // Law 5 has a test of its own.
    if (status !== 200 && status !== 404) throw new Error(`${name}:${tag} was answered ${status}`)
    if (status === 200 && headers['docker-content-digest'] !== digest)
      throw new Error('another digest’s bytes')
    const value = status === 200 ? digest : undefined
    if (run.history(name, tag).mayBe(value, span)) return
    const at = `${span.start}-${span.end}`
    throw new Error(`${at} ${name}:${tag} → ${outcome} ${value}: older than the last acknowledged write`)
  }

  async function loop(): Promise<void> {
    for (let turn = 0; !ended && !wrong; turn++) {
      // Most of what happens happens to the first tag of the first repository.
      const name = names[turn % 2 === 0 ? 0 : Math.floor(turn / 2) % names.length] ?? ''
      const tag = `t${turn % 4 < 2 ? 0 : Math.floor(turn / 4) % TAGS}`
      await pull(name, tag)
      await delay(world.isDown ? 10 * PAUSE_MS : PAUSE_MS)
    }
  }

  const reading = loop().catch((error: unknown) => {
    wrong = error instanceof Error ? error : new Error(String(error))
  })
  return {
    check() {
      if (wrong) throw wrong
    },
    async [Symbol.asyncDispose]() {
      ended = true
      await reading
    },
  }
}
