/** The quiet at the end: with no fault left, both sites say what the primary says, and their stores are sound. */
import { expectSoundStore } from '../e2e/store-files.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import type { Catalogue } from './catalogue.ts'
import type { Door } from './doors.ts'
import { REPOSITORIES, TAGS } from './operations.ts'
import type { Site, World } from './world.ts'

export interface AuditOptions {
  readonly primary: Door
  /** Every way into a site. */
  readonly doors: readonly Door[]
  readonly catalogue: Catalogue
  /** By when all must be answered as the primary does. */
  readonly deadlineMs: number
}

/**
 * Every tag, and every digest that is remembered, through every door, until all are answered as the primary answers.
 * Throws what is not, after the deadline. Resolves with how many questions were compared.
 */
export async function audit({ primary, doors, catalogue, deadlineMs }: AuditOptions): Promise<number> {
  const questions = [
    ...REPOSITORIES.flatMap((name) => TAGS.map((tag) => [name, tag] as const)),
    ...catalogue.all().map(([name, { digest }]) => [name, digest] as const),
  ]
  let compared = 0
  for (const [name, reference] of questions) {
    const truth = await answerOf(primary.puller, name, reference)
    // A kill in the middle of its own write: the registry itself cannot say.
    if (truth === 500) continue
    for (const door of doors) {
      let said: unknown
      const agrees = async () => {
        said = await answerOf(door.puller, name, reference)
        return said === truth
      }
      await until(agrees, {
        what: `${door.name} to say what the primary says`,
        deadlineMs,
        everyMs: 250,
      }).catch((cause) => {
        throw new Error(`${door.name} says ${said} of ${name}/manifests/${reference}, the primary ${truth}`, {
          cause,
        })
      })
      compared++
    }
  }
  return compared
}

async function answerOf(api: RegistryApi, name: string, reference: string): Promise<string | number> {
  const { status, digest, headers } = await api.getManifest(name, reference)
  return status === 200 ? `${digest}${headers['warning'] === undefined ? '' : ' (stale)'}` : status
}

/** Resolves with the number of blobs in each store. */
export async function soundStores({ sites }: World): Promise<string> {
  const counted = Object.values(sites).map(
    async ({ name, root }) => `${await expectSoundStore(root)} at ${name}`,
  )
  return (await Promise.all(counted)).join(', ')
}

const RESYNC_EVERY_MS = 2_000

/** Resolves when the site's own word is that it is in step; a hand tries again at once what failed in the storms. */
export async function inStep({ name, keeper, status }: Site, deadlineMs: number): Promise<void> {
  let triedAtMs = Number.NEGATIVE_INFINITY
  let last: unknown
  const isInStep = async () => {
    const report = await status()
    last = report
    if (!report.in_step && performance.now() - triedAtMs > RESYNC_EVERY_MS) {
      triedAtMs = performance.now()
      await fetch(`${keeper.adminUrl}/repositories/resync?state=failed`, { method: 'POST' })
    }
    return report.in_step
  }
  await until(isInStep, { what: `${name} to be in step`, deadlineMs, everyMs: 250 }).catch((cause) => {
    throw new Error(`${name} is not in step after ${deadlineMs} ms: ${JSON.stringify(last)}`, { cause })
  })
}
