/** What every signer is asked to do, and what it must not be brought to believe. */
import { DEVELOPER } from '../e2e/clients/two-sites.ts'
import { buildImage, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import type { Step } from './cells.ts'
import { deleteSignatures, expectSigned, type SignaturePlace, transplant } from './signatures.ts'
import type { Signer } from './signer.ts'
import type { Sites } from './sites.ts'
import { createSteps, type Matrix, OUTAGE, outageRefusal, refusal } from './steps.ts'
import { VERSION } from './tool.ts'
import { expectPushed } from './verify.ts'

/** Steps are given to `done` as they happen; what a signer fails at is a step, never an error. */
export function createSigning(sites: Sites, signer: Signer, done: (step: Step) => void): Matrix {
  const { at, step, counted, both } = createSteps(sites, signer, done)
  const { copy, remove, keptAs } = signer
  const byApi = keptAs === 'referrer' && sites.hasReferrersApi
  const repositoryOf = (what: string) => `team/${signer.name}/${what.replaceAll(' ', '-')}`
  const tagged = (host: string, what: string) => `${host}/${repositoryOf(what)}:${VERSION}`
  const apiOf = (host: string) => (host === at.direct ? sites.there : sites.here)
  const placeOf = (host: string, what: string): SignaturePlace => ({
    api: apiOf(host),
    repository: repositoryOf(what),
    keptAs,
  })

  /** An image pushed to this host under the tag that is verified. */
  async function pushed(host: string, what: string, seed: string = ''): Promise<Image> {
    const image = await buildImage({ seed: `${repositoryOf(what)} ${sites.site.port} ${seed}` })
    await pushImage(apiOf(host), repositoryOf(what), VERSION, image)
    return image
  }

  const sign = (host: string, what: string, image: Image, key: 'own' | 'other' = 'own') =>
    signer.sign(`${host}/${repositoryOf(what)}@${image.digest}`, key)

  async function signed(host: string, what: string): Promise<Image> {
    const image = await pushed(host, what)
    await sign(host, what, image)
    return image
  }

  const refused = (host: string, what: string) => refusal(signer.verify(tagged(host, what)), signer.untrusted)

  return {
    async run() {
      await both('login', (host) => signer.login(host, DEVELOPER))
      await both('sign', async (host, name) => {
        const image = await signed(host, name)
        await expectSigned([sites.there, sites.here], placeOf(host, name), image)
        await signer.verify(tagged(host, name))
      })

      await step('verify', 'direct', async () => {
        await signed(at.direct, 'verify')
        await signer.verify(tagged(at.direct, 'verify'))
      })
      for (const phase of ['cold', 'warm'] as const) {
        await counted('verify', phase, () => signer.verify(tagged(at.through, 'verify')))
      }

      await both('other key', async (host, name) => {
        await sign(host, name, await pushed(host, name), 'other')
        await refused(host, name)
      })
      await both('changed image', async (host, name) => {
        const image = await signed(host, name)
        await signer.verify(tagged(host, name))
        const changed = await pushed(at.direct, name, 'changed')
        await refused(host, name) // It has no signature.
        await transplant(placeOf(at.direct, name), image, changed)
        await refused(host, name) // It has another's.
      })
      if (copy) {
        await both('copy', async (host, name) => {
          const image = await signed(host, `${name}-from`)
          await copy(tagged(host, `${name}-from`), tagged(host, `${name}-to`))
          const to = repositoryOf(`${name}-to`)
          await expectPushed([sites.there, sites.here], to, VERSION, image.digest)
          await signer.verify(tagged(host, `${name}-to`))
        })
      }
      await both('delete', async (host, name) => {
        const image = await signed(host, name)
        await signer.verify(tagged(host, name))
        if (remove) await remove(tagged(host, name))
        else await deleteSignatures(placeOf(host, name), image)
        await refused(host, name)
      })
    },

    async runStopped() {
      const verification = () => signer.verify(tagged(at.through, 'verify'))
      // Of a primary with the referrers API no list stands in: that nothing is signed here would be a lie.
      await step('verify', 'stopped', byApi ? () => outageRefusal(verification()) : verification)
      const untrusted = byApi ? [] : (['other key', 'changed image'] as const)
      // cosign, where a referrer does not hold, looks for a signature under a tag as well, which nobody knows here.
      const words = new RegExp(`${signer.untrusted.source}|${OUTAGE.source}`, 'i')
      for (const what of untrusted) {
        const attempt = () => signer.verify(tagged(at.through, `through-${what}`))
        await step(what, 'stopped', () => refusal(attempt(), words))
      }
      await step('sign, primary stopped', 'stopped', () => {
        const reference = tagged(at.through, 'verify')
        return outageRefusal(signer.sign(reference, 'own'))
      })
    },
  }
}
