/** What every client is asked to do: at the primary, through the secondary, and once more when the primary is gone. */
import { DEVELOPER } from '../e2e/clients/two-sites.ts'
import { buildImage, buildMultiArch, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import type { Step } from './cells.ts'
import type { Sites } from './sites.ts'
import { createSteps, type Matrix, outageRefusal } from './steps.ts'
import { type Tool, VERSION } from './tool.ts'
import { expectHeld, expectPushed } from './verify.ts'

const PULLS = ['by tag', 'by digest', 'index'] as const
type Pull = (typeof PULLS)[number]

/** Steps are given to `done` as they happen; what a client fails at is a step, never an error. */
export function createMatrix(sites: Sites, tool: Tool, done: (step: Step) => void): Matrix {
  const { at, step, counted, both } = createSteps(sites, tool, done)
  const repositoryOf = (what: string) => `team/${tool.name}/${what.replaceAll(' ', '-')}`
  const published = new Map<Pull, Image>()

  async function sample(repository: string, pull?: Pull): Promise<Image> {
    const seed = `${repository} ${sites.site.port}`
    if (pull === 'index') return await buildMultiArch({ seed })
    return (await tool.sample?.(repository, seed)) ?? (await buildImage({ seed }))
  }

  async function pulled(pull: Pull, host: string): Promise<void> {
    const image = published.get(pull)
    if (!image) throw new Error(`nothing was published to be pulled ${pull}`)
    const name = `${host}/${repositoryOf(pull)}`
    const held = await tool.pull(pull === 'by digest' ? `${name}@${image.digest}` : `${name}:${VERSION}`)
    await expectHeld(held, image, tool.indexes)
  }

  /** Puts an image where the client then works on it, past the secondary. */
  async function prepared(what: string): Promise<Image> {
    const image = await sample(repositoryOf(what))
    await pushImage(sites.there, repositoryOf(what), VERSION, image)
    return image
  }

  const pulls = () => PULLS.filter((pull) => pull !== 'index' || tool.indexes !== 'none')

  return {
    async run() {
      await both('login', (host) => tool.login(host, DEVELOPER))
      await both('push', async (host, name) => {
        const repository = repositoryOf(name)
        const digest = await tool.push(`${host}/${repository}:${VERSION}`, await sample(repository))
        await expectPushed([sites.there, sites.here], repository, VERSION, digest)
      })
      for (const pull of pulls()) {
        const image = await sample(repositoryOf(pull), pull)
        published.set(pull, image)
        await pushImage(sites.there, repositoryOf(pull), VERSION, image)
        await step(pull, 'direct', () => pulled(pull, at.direct))
        await counted(pull, 'cold', () => pulled(pull, at.through))
        await counted(pull, 'warm', () => pulled(pull, at.through))
      }
      if (tool.indexes === 'whole') {
        await counted('index', 'through', async () => {
          const repository = repositoryOf('pushed-index')
          const image = await sample(repository, 'index')
          const digest = await tool.push(`${at.through}/${repository}:${VERSION}`, image)
          await expectPushed([sites.there, sites.here], repository, VERSION, digest)
        })
      }
      await others()
    },

    async runStopped() {
      for (const pull of pulls()) await step(pull, 'stopped', () => pulled(pull, at.through))
      const repository = repositoryOf('in-an-outage')
      await step('push, primary stopped', 'stopped', async () =>
        outageRefusal(tool.push(`${at.through}/${repository}:${VERSION}`, await sample(repository))),
      )
    },
  }

  async function others(): Promise<void> {
    const { copy, remove, refer, tags } = tool
    if (copy) {
      await both('copy', async (host, name) => {
        const image = await prepared(`${name}-from`)
        const to = repositoryOf(`${name}-to`)
        await copy(`${host}/${repositoryOf(`${name}-from`)}:${VERSION}`, `${host}/${to}:${VERSION}`)
        const digest = tool.indexes === 'whole' ? image.digest : undefined
        await expectPushed([sites.there, sites.here], to, VERSION, digest)
        // An engine writes a manifest of its own: the layers must be the same.
        const held = await tool.pull(`${host}/${to}:${VERSION}`)
        await expectHeld({ ...held, digest }, image, tool.indexes)
      })
    }
    if (refer) {
      await both('referrers', async (host, name) => {
        const { digest } = await prepared(name)
        const found = await refer(`${host}/${repositoryOf(name)}@${digest}`)
        if (found.length !== 1) throw new Error(`one artifact was attached, ${found.length} are listed`)
        await expectPushed([sites.there, sites.here], repositoryOf(name), found[0] ?? '', found[0])
      })
    }
    if (tags) {
      await both('tags', async (host, name) => {
        const image = await prepared(name)
        for (const tag of ['2.0.0', '3.0.0']) await pushImage(sites.there, repositoryOf(name), tag, image)
        const listed = (await tags(`${host}/${repositoryOf(name)}`)).toSorted().join(' ')
        if (listed !== `${VERSION} 2.0.0 3.0.0`) throw new Error(`listed are: ${listed || 'none'}`)
      })
    }
    if (remove) {
      await both('delete', async (host, name) => {
        const { digest } = await prepared(name)
        // Held by the site, so that it has something to forget.
        await sites.here.getManifest(repositoryOf(name), VERSION)
        await remove(`${host}/${repositoryOf(name)}@${digest}`)
        // What was deleted past the secondary it may go on to know for a while.
        for (const api of host === at.direct ? [sites.there] : [sites.there, sites.here]) {
          const { status } = await api.getManifest(repositoryOf(name), digest)
          if (status !== 404) throw new Error(`the deleted image is answered ${status} at ${api.url}`)
        }
      })
    }
  }
}
