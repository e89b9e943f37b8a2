/** The clients written in Go that copy whatever an OCI layout holds, and helm. */
import { startGoProgram } from './go-programs.ts'
import { startHelm } from './helm.ts'
import { intoLayout, withLayout } from './layouts.ts'
import type { StartTool, Tool } from './tool.ts'

const HTTP = '--plain-http'
const words = (text: string) => text.split('\n').filter((line) => line !== '')

export const GO_TOOLS: Readonly<Record<string, StartTool>> = {
  async crane(): Promise<Tool> {
    const crane = await startGoProgram('crane') // It speaks plain HTTP to loopback by itself.
    return {
      name: 'crane',
      version: crane.version,
      indexes: 'whole',
      async login(host, { username, password }) {
        await crane.run(['auth', 'login', host, '--username', username, '--password-stdin'], password)
      },
      async push(reference, image) {
        await withLayout(image, (layout) => crane.run(['push', layout, reference]))
        return image.digest
      },
      pull: (reference) =>
        intoLayout(crane.home, (layout) => crane.run(['pull', '--format=oci', reference, layout])),
      copy: async (from, to) => void (await crane.run(['copy', from, to])),
      remove: async (reference) => void (await crane.run(['delete', reference])),
      tags: async (repository) => words(await crane.run(['ls', repository])),
      [Symbol.asyncDispose]: () => crane[Symbol.asyncDispose](),
    }
  },

  async oras(): Promise<Tool> {
    const oras = await startGoProgram('oras')
    return {
      name: 'oras',
      hostname: 'localhost', // It takes a realm at a loopback address only from a registry of the same name.
      version: oras.version,
      indexes: 'whole',
      async login(host, { username, password }) {
        await oras.run(['login', HTTP, '--username', username, '--password-stdin', host], password)
      },
      async push(reference, image) {
        await withLayout(image, (layout) =>
          oras.run(['cp', '--from-oci-layout', `${layout}:latest`, '--to-plain-http', reference]),
        )
        return image.digest
      },
      pull: (reference) =>
        intoLayout(oras.home, (layout) =>
          oras.run(['cp', '--from-plain-http', reference, '--to-oci-layout', `${layout}:latest`]),
        ),
      copy: async (from, to) =>
        void (await oras.run(['cp', '--from-plain-http', '--to-plain-http', from, to])),
      remove: async (reference) => void (await oras.run(['manifest', 'delete', HTTP, '--force', reference])),
      async refer(reference) {
        await oras.home.write('sbom.json', '{}')
        const type = ['--artifact-type', 'application/vnd.example.sbom']
        await oras.run(['attach', HTTP, ...type, reference, 'sbom.json:application/json'])
        const found: { referrers?: { digest: string }[] } = JSON.parse(
          await oras.run(['discover', HTTP, '--format', 'json', reference]),
        )
        return (found.referrers ?? []).map(({ digest }) => digest)
      },
      tags: async (repository) => words(await oras.run(['repo', 'tags', HTTP, repository])),
      [Symbol.asyncDispose]: () => oras[Symbol.asyncDispose](),
    }
  },

  async regctl(): Promise<Tool> {
    const regctl = await startGoProgram('regctl')
    return {
      name: 'regctl',
      version: regctl.version,
      indexes: 'whole',
      async login(host, { username, password }) {
        await regctl.run(['registry', 'set', host, '--tls', 'disabled', '--skip-check'])
        await regctl.run(['registry', 'login', host, '--user', username, '--pass-stdin'], password)
      },
      async push(reference, image) {
        await withLayout(image, (layout) =>
          regctl.run(['image', 'copy', `ocidir://${layout}:latest`, reference]),
        )
        return image.digest
      },
      pull: (reference) =>
        intoLayout(regctl.home, (layout) =>
          regctl.run(['image', 'copy', reference, `ocidir://${layout}:latest`]),
        ),
      copy: async (from, to) => void (await regctl.run(['image', 'copy', from, to])),
      remove: async (reference) => void (await regctl.run(['manifest', 'delete', reference])),
      async refer(reference) {
        const type = ['--artifact-type', 'application/vnd.example.sbom']
        await regctl.run(['artifact', 'put', ...type, '--subject', reference], '{}')
        const list = ['artifact', 'list', '--format', '{{range .Descriptors}}{{println .Digest}}{{end}}']
        return words(await regctl.run([...list, reference]))
      },
      tags: async (repository) => words(await regctl.run(['tag', 'ls', repository])),
      [Symbol.asyncDispose]: () => regctl[Symbol.asyncDispose](),
    }
  },

  helm: startHelm,
}
