/** Every client that is driven, by its name in the table, and what it is driven against. */
import { CLIENT_OPERATIONS, type Operation, type Row, SIGNER_OPERATIONS, type Step } from './cells.ts'
import { startCosign } from './cosign.ts'
import { ENGINES } from './engines.ts'
import { GO_TOOLS } from './go-tools.ts'
import { createMatrix } from './matrix.ts'
import { startNotation } from './notation.ts'
import type { StartSigner } from './signer.ts'
import { createSigning } from './signing.ts'
import { type Sites, startSites, startSitesWithReferrersApi } from './sites.ts'
import type { Matrix } from './steps.ts'
import type { Credentials, StartTool } from './tool.ts'

/** A client that runs, with the table that it belongs to. */
export interface Driven extends AsyncDisposable {
  readonly row: Row
  readonly operations: readonly Operation[]
  readonly matrix: Matrix
}

export type StartSites = (user: Credentials) => Promise<Sites>

export interface Client {
  readonly startSites: StartSites
  /** Throws when the client cannot be had here. */
  drive(sites: Sites, done: (step: Step) => void): Promise<Driven>
}

const SIGNERS: Readonly<Record<string, StartSigner>> = {
  cosign: () => startCosign('tag'),
  'cosign-oci-1-1': () => startCosign('oci-1-1'),
  notation: startNotation,
}

const SIGNERS_BY_API: Readonly<Record<string, StartSigner>> = {
  'cosign-oci-1-1-olareg': () => startCosign('oci-1-1'),
  'notation-olareg': startNotation,
}

export const CLIENTS: ReadonlyMap<string, Client> = new Map([
  ...Object.entries({ ...ENGINES, ...GO_TOOLS }).map(([name, start]) => [name, tool(start)] as const),
  ...Object.entries(SIGNERS).map(([name, start]) => [name, signer(name, start, startSites)] as const),
  ...Object.entries(SIGNERS_BY_API).map(
    ([name, start]) => [name, signer(name, start, startSitesWithReferrersApi)] as const,
  ),
])

function tool(start: StartTool): Client {
  return {
    startSites,
    async drive(sites, done) {
      const running = await start()
      return {
        row: { client: running.name, version: running.version },
        operations: CLIENT_OPERATIONS,
        matrix: createMatrix(sites, running, done),
        [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
      }
    },
  }
}

function signer(name: string, start: StartSigner, itsSites: StartSites): Client {
  return {
    startSites: itsSites,
    async drive(sites, done) {
      const running = await start()
      return {
        row: { client: name, version: running.version },
        operations: SIGNER_OPERATIONS,
        matrix: createSigning(sites, { ...running, name }, done),
        [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
      }
    },
  }
}
