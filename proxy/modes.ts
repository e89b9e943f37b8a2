/**
 * What the site's modes make of a request (`replication.modes`): a repository that is denied is answered here, one that
 * is read through has handlers that keep nothing, and all others the ones that do.
 */
import { OciError } from '../src/oci/errors.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { ModeOf } from '../src/oci/repository-mode.ts'
import type { Handlers } from './app.ts'
import type { ManifestWritesDeps } from './manifest-writes.ts'
import type { UploadsDeps } from './uploads.ts'

/** In the place of the store where a push must leave nothing here. */
export const KEEPS_NOTHING: Pick<
  UploadsDeps & ManifestWritesDeps,
  'captures' | 'blobs' | 'index' | 'holdings'
> = {
  captures: {
    begin: () => {},
    rename: () => {},
    part: () => undefined,
    learn: () => {},
    drop: () => {},
  },
  blobs: {
    pin: () => () => {},
    stat: async () => undefined,
    hasRoom: async () => false,
    write: async () => {},
  },
  index: {
    mark: () => ({ era: '', sequence: 0, atMs: 0 }),
    putLink: async () => false,
    putTag: async () => false,
    doubtTag: async () => {},
  },
  holdings: { dropComplete: async () => {} },
}

export function createModes(
  modeOf: ModeOf,
  { kept, passedThrough }: { readonly kept: Handlers; readonly passedThrough: Handlers },
): Handlers {
  function handlersFor(name: RepositoryName): Handlers {
    const mode = modeOf(name)
    if (mode === 'deny') {
      throw new OciError('DENIED', {
        message: 'this repository is not served at this site: use the primary registry',
        detail: { name },
      })
    }
    return mode === 'passthrough' ? passedThrough : kept
  }
  return {
    readManifest: async (exchange, route) => handlersFor(route.name).readManifest(exchange, route),
    putManifest: async (exchange, route) => handlersFor(route.name).putManifest(exchange, route),
    deleteManifest: async (exchange, route) => handlersFor(route.name).deleteManifest(exchange, route),
    readBlob: async (exchange, route) => handlersFor(route.name).readBlob(exchange, route),
    deleteBlob: async (exchange, route) => handlersFor(route.name).deleteBlob(exchange, route),
    startUpload: async (exchange, route) => handlersFor(route.name).startUpload(exchange, route),
    continueUpload: async (exchange, route) => handlersFor(route.name).continueUpload(exchange, route),
    list: async (exchange, route) => ('name' in route ? handlersFor(route.name) : kept).list(exchange, route),
    token: kept.token,
  }
}
