/**
 * Signing keys with their self-signed certificates, and the tokens they sign: everything GitLab's Rails signs, and
 * everything an attacker might. Keys are made once per process and name.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
} from 'node:crypto'
import { type JWTPayload, SignJWT } from 'jose'
import { runProgram } from './process.ts'
import { tempFolder } from './temp.ts'

export type SigningAlgorithm = 'RS256' | 'RS384' | 'RS512' | 'ES256' | 'ES384'

export interface SigningKey {
  /** What tokens are signed with unless told otherwise. */
  readonly algorithm: SigningAlgorithm
  readonly privateKey: KeyObject
  readonly privateKeyPem: string
  /** Self-signed, for a `rootcertbundle` or a TLS server on 127.0.0.1 and localhost. */
  readonly certificatePem: string
  /** libtrust's fingerprint of the public key, which GitLab puts into `kid`. */
  readonly kid: string
  /** The public key with `kid`, `alg` and `use`. */
  readonly jwk: Readonly<Record<string, unknown>>
}

export interface KeyOptions {
  /** Default RS256 (RSA 2048); ES256 and ES384 make P-256 and P-384 keys. */
  readonly algorithm?: SigningAlgorithm
  /** Keys of different names differ; default `gitlab`. Also the certificate's common name. */
  readonly name?: string
  /** Further DNS names of the certificate. */
  readonly hosts?: readonly string[]
}

const made = new Map<string, Promise<SigningKey>>()

export function signingKey(options: KeyOptions = {}): Promise<SigningKey> {
  const { algorithm = 'RS256', name = 'gitlab', hosts = [] } = options
  const id = JSON.stringify([algorithm, name, hosts])
  const key = made.get(id) ?? makeKey(algorithm, name, hosts)
  made.set(id, key)
  return key
}

async function makeKey(
  algorithm: SigningAlgorithm,
  name: string,
  hosts: readonly string[],
): Promise<SigningKey> {
  const privateKeyPem = generatePrivateKey(algorithm)
  const privateKey = createPrivateKey(privateKeyPem)
  const publicKey = createPublicKey(privateKey)
  const kid = libtrustFingerprint(publicKey)
  const altNames = ['localhost', ...hosts].map((host) => `DNS:${host}`)
  await using folder = await tempFolder('key')
  const file = await folder.write('key.pem', privateKeyPem, 0o600)
  const { stdout: certificatePem } = await runProgram('openssl', [
    ...['req', '-x509', '-key', file, '-subj', `/CN=${name}`, '-days', '30', '-sha256'],
    ...['-addext', `subjectAltName=${[...altNames, 'IP:127.0.0.1'].join(',')}`],
  ])
  return {
    algorithm,
    privateKey,
    privateKeyPem,
    certificatePem,
    kid,
    jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig' },
  }
}

function generatePrivateKey(algorithm: SigningAlgorithm): string {
  const pair = algorithm.startsWith('RS')
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ec', { namedCurve: algorithm === 'ES256' ? 'P-256' : 'P-384' })
  return pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** Twelve groups of four letters, as facts/gitlab.md 4.1 and libtrust's `keyIDFromCryptoKey` have it. */
function libtrustFingerprint(publicKey: KeyObject): string {
  const hash = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' }))
  const letters = base32(hash.digest().subarray(0, 30))
  return (letters.match(/.{4}/g) ?? []).join(':')
}

function base32(bytes: Uint8Array): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  return (bits.match(/.{5}/g) ?? [])
    .map((five) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[Number.parseInt(five, 2)])
    .join('')
}

/** A JWKS file's content with the public halves of these keys. */
export function jwksOf(...keys: readonly SigningKey[]): string {
  return JSON.stringify({ keys: keys.map((key) => key.jwk) }, null, 2)
}

/** One entry of a token's `access`. */
export interface Access {
  readonly type: string
  readonly name: string
  readonly actions: readonly string[]
  /** As GitLab adds it: `project_id`, `project_path`, `root_namespace_id`, tag patterns. */
  readonly meta?: Readonly<Record<string, unknown>>
}

/** Claims and header of a token; what is left out is as GitLab has it. Times are in seconds since 1970. */
export interface TokenOptions {
  /** Default none: a token that grants nothing. */
  readonly access?: readonly Access[]
  /** Default none, as for anonymous callers and deploy tokens. */
  readonly sub?: string
  /** Default `gitlab-issuer`. */
  readonly iss?: string
  /** Default `container_registry`. */
  readonly aud?: string | string[]
  /** Default now. */
  readonly iat?: number
  /** Default 5 s before `iat`. */
  readonly nbf?: number
  /** Default 5 minutes after `iat`. */
  readonly exp?: number
  readonly auth_type?: string
  /** Further or replacing claims. */
  readonly claims?: Readonly<Record<string, unknown>>
  /** Default the key's own. `none` leaves it unsigned; `HS…` signs with the certificate as the shared secret. */
  readonly alg?: string
  /** Default the key's own fingerprint; null leaves it out. */
  readonly kid?: string | null
  /** Further header fields: `x5c`, `jwk`. */
  readonly header?: Readonly<Record<string, unknown>>
}

export const DEFAULT_ISSUER = 'gitlab-issuer'
export const DEFAULT_SERVICE = 'container_registry'

/** A compact JWT. */
export async function mintToken(key: SigningKey, options: TokenOptions = {}): Promise<string> {
  const iat = options.iat ?? Math.floor(Date.now() / 1000)
  const { sub, auth_type, iss = DEFAULT_ISSUER, aud = DEFAULT_SERVICE } = options
  const payload: JWTPayload = {
    access: options.access ?? [],
    jti: randomUUID(),
    iss,
    aud,
    iat,
    nbf: options.nbf ?? iat - 5,
    exp: options.exp ?? iat + 300,
    ...(sub === undefined ? {} : { sub }),
    ...(auth_type === undefined ? {} : { auth_type }),
    ...options.claims,
  }
  const alg = options.alg ?? key.algorithm
  const kid = options.kid === undefined ? key.kid : options.kid
  const header = { typ: 'JWT', alg, ...(kid === null ? {} : { kid }), ...options.header }
  if (alg === 'none') return `${encode(header)}.${encode(payload)}.`
  const secret = alg.startsWith('HS') ? Buffer.from(key.certificatePem) : key.privateKey
  return await new SignJWT(payload).setProtectedHeader(header).sign(secret)
}

function encode(part: unknown): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url')
}

/** An `access` entry for one repository; default pull only: `repositoryAccess('team/app', ['pull', 'push'])`. */
export function repositoryAccess(
  name: string,
  actions: readonly string[] = ['pull'],
  meta?: Readonly<Record<string, unknown>>,
): Access {
  return { type: 'repository', name, actions, ...(meta === undefined ? {} : { meta }) }
}
