/** A primary that accepts and never answers: what is held is still served, late once and then at once (law 5). */
import { setTimeout as delay } from 'node:timers/promises'
import { startLink } from '../support/link.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { absolute, milliseconds, type Row } from './report.ts'
import { expectStatus, REPOSITORY, type Scene, TAG } from './scene.ts'

/** Spread over some of the background checks that ask whether the primary is back. */
const PULLS = 60
const PAUSE_MS = 50
const BOUNDS = { firstMs: 1000, thenMs: 10 }

export async function measureBlackHole(scene: Scene): Promise<Row[]> {
  await using link = await startLink({ target: scene.primary.url })
  await using site = await scene.startSite({ primary: link.url })
  await using api = scene.api(site.url)
  for (let pull = 0; pull < 10; pull++) await pullTag(scene, api)
  link.blackhole()
  const first = await pullTag(scene, api)
  const then: number[] = []
  for (let pull = 0; pull < PULLS; pull++) {
    await delay(PAUSE_MS)
    const { ms, source } = await pullTag(scene, api)
    if (source !== 'stale') throw new Error(`a pull in an outage was answered from ${source}`)
    then.push(ms)
  }
  const work = 'primary accepts and never answers, held tag'
  const slowest = Math.max(...then)
  return [
    absolute(`${work}: first pull`, milliseconds(first.ms), '< 1 s', first.ms < BOUNDS.firstMs),
    absolute(
      `${work}: slowest of the next ${PULLS}`,
      milliseconds(slowest),
      '< 10 ms',
      slowest < BOUNDS.thenMs,
    ),
  ]
}

async function pullTag(scene: Scene, api: RegistryApi): Promise<{ ms: number; source: string | undefined }> {
  const startedAtMs = performance.now()
  const answer = await api.getManifest(REPOSITORY, TAG)
  const ms = performance.now() - startedAtMs
  expectStatus(answer, 200)
  if (!answer.body.equals(scene.image.bytes)) throw new Error('a held tag changed its bytes')
  return { ms, source: answer.headers['geo-registry-source'] }
}
