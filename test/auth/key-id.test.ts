import { createPublicKey, X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { keyIdOf } from '../../src/auth/key-id.ts'
import { EXPIRED_CERTIFICATE_KID, EXPIRED_CERTIFICATE_PEM } from './expired-certificate.ts'

describe('the id of a key', () => {
  it("is libtrust's fingerprint of an RSA key, as computed by another implementation", () => {
    const { publicKey } = new X509Certificate(EXPIRED_CERTIFICATE_PEM)

    expect(keyIdOf(publicKey)).toBe(EXPIRED_CERTIFICATE_KID)
  })

  it("is libtrust's fingerprint of an EC key, as computed by another implementation", () => {
    const publicKey = createPublicKey(
      '-----BEGIN PUBLIC KEY-----\n' +
        'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEiwh0OyDFpW1DJ/5zQnBeRbg79MvJ\n' +
        'N/8igsNYiInv1kBy1l7Vl7kMCJN2AWcKXE2tm/gxBG+Ulr6HcZD0JKYbTQ==\n' +
        '-----END PUBLIC KEY-----\n',
    )

    expect(keyIdOf(publicKey)).toBe('DLGM:LXXN:226Y:R26E:GDBE:K6TC:ARLE:J6XX:DSXB:6UOX:WIRP:K2VC')
  })
})
