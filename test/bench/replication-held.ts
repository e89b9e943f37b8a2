/** What a site holds, read from its disk: asking the site would make it ask the primary. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Digest } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/reference.ts'
import { createStorePaths } from '../../src/store/paths.ts'
import { allBlobs, type Image } from '../support/images.ts'
import { until } from '../support/wait.ts'

/** Little beside what is waited for, and little work. */
const EVERY_MS = 5

export interface Watched {
  readonly root: string
  readonly repository: string
  readonly tag: string
}

/** Resolves when the tag is the image; throws when that is so before all of the image is here. */
export async function tagIsHere(watched: Watched, image: Image, deadlineMs: number = 120_000): Promise<void> {
  await until(async () => (await digestHere(watched)) === image.digest, {
    what: `${watched.repository}:${watched.tag} to be here`,
    everyMs: EVERY_MS,
    deadlineMs,
  })
  const { blob } = createStorePaths(watched.root)
  const lacking = allBlobs(image).filter(({ digest }) => !existsSync(blob(digest)))
  if (lacking.length > 0) throw new Error(`${watched.tag} is here without ${lacking[0]?.digest}`)
}

export async function tagIsGone(watched: Watched): Promise<void> {
  await until(async () => (await digestHere(watched)) === undefined, {
    what: `${watched.repository}:${watched.tag} to be gone`,
    everyMs: EVERY_MS,
    deadlineMs: 120_000,
  })
}

export async function digestHere({ root, repository, tag }: Watched): Promise<Digest | undefined> {
  const name = parseRepositoryName(repository)
  const parsed = parseTag(tag)
  if (!name || !parsed) throw new Error(`${repository}:${tag} is no reference`)
  const link = await readFile(createStorePaths(root).tagLink(name, parsed), 'utf8').catch(() => undefined)
  return link as Digest | undefined
}
